package app

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/wasm"
	"wherry.dev/wherry/runtime/wasm/tools"
)

// The guests of these tests, by hand.
var (
	// (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
	addModule = "\x00asm\x01\x00\x00\x00\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f\x03\x02\x01\x00\x07\x07\x01\x03add\x00\x00\x0a\x09\x01\x07\x00\x20\x00\x20\x01\x6a\x0b"
	// (func (export "_start") loop br 0 end)
	spinModule = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"
	// (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
	// (func (export "_start") i32.const 7 call 0)
	exitModule = "\x00asm\x01\x00\x00\x00\x01\x08\x02\x60\x01\x7f\x00\x60\x00\x00\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x00" +
		"\x03\x02\x01\x01\x07\x0a\x01\x06_start\x00\x01\x0a\x08\x01\x06\x00\x41\x07\x10\x00\x0b"
	// (import "env" "secret" (func)) (func (export "_start"))
	foreignModule = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x0e\x01\x03env\x06secret\x00\x00" +
		"\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x01\x0a\x04\x01\x02\x00\x0b"
)

// moduleFile writes a module below a data directory of the test's own.
func moduleFile(t *testing.T, code string) string {
	t.Helper()
	t.Setenv("WHERRY_DATA_DIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name, module string
		flags, args  []string
		code         int
		out, errs    string
	}{
		{"exit code", exitModule, nil, nil, 7, "", ""},
		{"a function", addModule, []string{"--invoke", "add"}, []string{"40", "2"}, 0, "42\n", ""},
		{"negative numbers", addModule, []string{"--invoke=add"}, []string{"-1", "0xffffffff"}, 0, "-2\n", ""},
		{"too few numbers", addModule, []string{"--invoke", "add"}, []string{"40"}, 1, "", `function "add" takes 2 numbers, not 1`},
		{"no number", addModule, []string{"--invoke", "add"}, []string{"40", "x"}, 1, "", `argument 2 of function "add": "x" is no integer of 32 bits`},
		{"no such function", addModule, []string{"--invoke", "sub"}, nil, 1, "", `exports no function "sub"; it has add`},
		{"a library", addModule, nil, nil, 1, "", "is a library"},
		{"fuel", spinModule, []string{"--fuel", "1000000"}, nil, 137, "", "used its fuel of 1000000 units"},
		{"an unknown import", foreignModule, nil, nil, 1, "", "env.secret"},
		{"no module", "text", nil, nil, 1, "", "not a WebAssembly module"},
		{"bad memory", exitModule, []string{"--memory", "much"}, nil, 1, "", `--memory "much"`},
		{"no such directory", exitModule, []string{"--dir", "/no/such:/x"}, nil, 1, "", `--dir "/no/such:/x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append(append([]string{"run"}, tc.flags...), moduleFile(t, tc.module))
			code := Main(append(args, tc.args...), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
			if code != tc.code || out.String() != tc.out || !strings.Contains(errs.String(), tc.errs) {
				t.Errorf("code %d, out %q, err %q", code, out.String(), errs.String())
			}
		})
	}
}

// TestRunServes runs the demo's server until it has answered.
func TestRunServes(t *testing.T) {
	demo, err := os.ReadFile("../../samples/chello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	file := moduleFile(t, string(demo))
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- Main([]string{"run", "--listen", "127.0.0.1:0", "-e", "POD_NAME=here", "--fuel", "100000000", file},
			Streams{In: strings.NewReader(""), Out: io.Discard, Err: w})
		w.Close()
	}()
	errs := bufio.NewScanner(r)
	var address string
	for address == "" && errs.Scan() {
		_, address, _ = strings.Cut(errs.Text(), "listening on ")
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	answer, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if !strings.HasPrefix(string(body), "Hello from here") {
		t.Errorf("answer %q", body)
	}
	// It is ended as from a terminal.
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		t.Skipf("no signals here: %v", err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestInspect(t *testing.T) {
	for _, tc := range []struct {
		module, kind, refused, text string
		code                        int
	}{
		{exitModule, "command", "", "wasi_snapshot_preview1:", 0},
		{addModule, "library", "", "add", 0},
		{foreignModule, "", "env.secret", "no: ", 1},
		{"\x00asm\x0d\x00\x01\x00", "", "component", "no: ", 1},
	} {
		var out, table bytes.Buffer
		file := moduleFile(t, tc.module)
		code := Main([]string{"inspect", file, "--output", "json"}, Streams{Out: &out, Err: io.Discard})
		var r wasm.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if code != tc.code || r.Kind != tc.kind || !strings.Contains(r.Refused, tc.refused) {
			t.Errorf("code %d, %+v", code, r)
		}
		if Main([]string{"inspect", file}, Streams{Out: &table, Err: io.Discard}) != tc.code || !strings.Contains(table.String(), tc.text) {
			t.Errorf("table %s", table.String())
		}
	}
}

// TestRunFlags lets the shell that every container has say what it finds.
func TestRunFlags(t *testing.T) {
	shell, err := io.ReadAll(tools.Open())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("WHERRY_DATA_DIR", t.TempDir())
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "sh") // its name is the command
	if err := os.WriteFile(file, shell, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PASSED_ON", "ours")
	t.Setenv("KEPT_BACK", "secret")
	for _, tc := range []struct {
		name, script string
		flags        []string
		in, out      string
		code         int
	}{
		{"a directory", "cat /data/f; echo more >/data/g; ls /data /", []string{"--dir", dir + ":/data"}, "", "text\n/data:\nf\ng\n\n/:\ndata\n", 0},
		{"read-only", "cat /data/f; echo more >/data/new || ls /data", []string{"--dir", dir + ":/data:ro"}, "", "text\nf\ng\n", 0},
		{"a file", "cat /etc/app.conf", []string{"--dir", filepath.Join(dir, "f") + ":/etc/app.conf:ro"}, "", "text\n", 0},
		{"all of the machine", "cat /host" + dir + "/f", []string{"--dir", "/:/host:ro"}, "", "text\n", 0},
		{"two directories", "cat /a/f /b/c/f", []string{"--dir", dir + ":/a", "--dir", dir + ":/b/c:ro"}, "", "text\ntext\n", 0},
		{"no directory", "ls /; cat /etc/hostname", nil, "", "", 1},
		{"variables", "env | grep -vE '^(HOSTNAME|PWD)=' | sort", []string{"--env", "A=1", "-e", "PASSED_ON", "-e", "UNSET_HERE"}, "", "A=1\nPASSED_ON=ours\n", 0},
		{"this machine's name", "hostname; echo $HOSTNAME", nil, "", "wherry\nwherry\n", 0},
		{"standard input", "read x; echo got $x; exit 3", nil, "line\n", "got line\n", 3},
		{"a share of a processor", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo $i", []string{"--cpu", "500m"}, "", "1000\n", 0},
		{"memory", "x=0123456789abcdef; while true; do x=$x$x; done", []string{"--memory", "2Mi"}, "", "", 137},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			// What follows the module is the module's, also what looks like a flag.
			args := append(append([]string{"run"}, tc.flags...), file, "-c", tc.script)
			code := Main(args, Streams{In: strings.NewReader(tc.in), Out: &out, Err: &errs})
			if code != tc.code || out.String() != tc.out {
				t.Errorf("code %d, out %q, err %q", code, out.String(), errs.String())
			}
		})
	}
}
