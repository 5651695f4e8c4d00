package module

import (
	"errors"
	"strings"
	"testing"
)

func TestInspectRefuses(t *testing.T) {
	const head = "\x00asm\x01\x00\x00\x00"
	whole := kernels(1).bytes()
	for _, tc := range []struct{ name, wasm, want string }{
		{"empty", "", "empty"},
		{"text", "(module)", "magic"},
		{"elf", "\x7fELF\x02\x01\x01\x00", "magic"},
		{"short header", "\x00asm\x01", "truncated"},
		{"component", "\x00asm\x0d\x00\x01\x00", "component"},
		{"version", "\x00asm\x02\x00\x00\x00", "version 2"},
		{"cut", string(whole[:len(whole)-3]), "truncated"},
		{"section twice", head + "\x01\x01\x00\x01\x01\x00", "repeated"},
		{"order", head + "\x03\x01\x00\x01\x01\x00", "out of order"},
		{"unknown section", head + "\x77\x00", "unknown section"},
		{"too long", head + "\x01\x02\x00\x00", "too many"},
		{"gc type", head + "\x01\x02\x01\x5f", "garbage collection"},
		{"shared memory", head + "\x05\x04\x01\x03\x01\x02", "threads"},
		{"memory64", head + "\x05\x03\x01\x04\x01", "memory64"},
		{"two memories", head + "\x05\x05\x02\x00\x01\x00\x01", "2 memories"},
		{"no code", head + "\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00", "declares 1 functions"},
		{"unknown type", head + "\x03\x02\x01\x00", "unknown type"},
		{"data count", head + "\x0c\x01\x02", "announces 2 data"},
		{"huge vector", head + "\x01\x05\xff\xff\xff\xff\x0f", "truncated"},
		{"long number", head + "\x01\xff\xff\xff\xff\xff\x01", "longer than 32"},
		{"name", head + "\x02\x06\x01\x01\xff\x00\x00\x00", "UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Inspect([]byte(tc.wasm))
			var bad *InvalidError
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, tc.want) {
				t.Errorf("err = %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	a := newAsm()
	a.imports = []asmImport{
		{"wasi_snapshot_preview1", "sock_accept", a.typ("ii", "i")},
		{"env", "f", a.typ("I", "")},
	}
	a.memory = []uint32{2, 9}
	a.exports = []exportEntry{{"memory", kindMemory, 0}}
	a.start = a.fn("", "", "", "", "")
	a.data = []dataSegment{{active: true, init: []byte("abc")}, {init: []byte("de")}}
	a.customs = []custom{{"producers", []byte("\x01\x08language\x01\x04Rust\x001.8")}, {"name", []byte("\xff")}}
	info, err := Inspect(a.bytes())
	if err != nil {
		t.Fatal(err)
	}
	if info.SockAcceptParams != 2 || info.MinMemoryPages != 2 || info.MaxMemoryPages != 9 || !info.HasStart ||
		info.DataBytes != 5 || info.DataSegments != 2 || info.Functions != 1 || info.GoModule ||
		len(info.Imports) != 2 || info.Imports[1] != (Import{"env", "f", "function", 1, 0}) || info.Exports[0] != (Export{"memory", "memory"}) {
		t.Errorf("%+v", info)
	}
	a.customs[0].payload = []byte("\x01\x0cprocessed-by\x01\x0eGo cmd/compile\x06go1.26")
	if info, err := Inspect(a.bytes()); err != nil || !info.GoModule {
		t.Errorf("Go module not recognised: %+v, %v", info, err)
	}
}

func TestCheckImports(t *testing.T) {
	offered := func(module, _ string) bool { return module == "wasi" }
	for _, tc := range []struct {
		imports []Import
		want    string
	}{
		{[]Import{{Module: "wasi", Name: "x", Kind: "function"}}, ""},
		{[]Import{{Module: "env", Name: "b", Kind: "function"}, {Module: "env", Name: "a", Kind: "function"}}, "env.a, env.b;"},
		{[]Import{{Module: "wherry", Name: "yield", Kind: "function"}}, "reserved"},
		{[]Import{{Module: "env", Name: "memory", Kind: "memory"}}, "the memory env.memory"},
		{make([]Import, 20), "and others"},
	} {
		for i := range tc.imports {
			if tc.imports[i].Kind == "" {
				tc.imports[i].Kind = "function"
			}
		}
		err := CheckImports(&Info{Imports: tc.imports}, offered)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v: %v, want %q", tc.imports, err, tc.want)
		}
	}
}
