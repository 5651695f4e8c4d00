package module

import (
	"sort"
	"strings"
)

// Kinds of imports and exports, as the binary format numbers them.
const (
	kindFunction = 0
	kindTable    = 1
	kindMemory   = 2
	kindGlobal   = 3
	kindTag      = 4
)

// PageSize is the unit of linear memory in bytes.
const PageSize = 65536

// maxPages is the format's own bound of a memory, 4 GiB.
const maxPages = 65536

// Info says what a module is without running it.
type Info struct {
	Imports []Import `json:"imports"`
	Exports []Export `json:"exports"`
	// Languages are the source languages that the producers section names,
	// e.g. "Go", "Rust", "C11".
	Languages []string `json:"languages"`
	// GoModule: built by the Go toolchain (TinyGo's modules are not).
	GoModule bool `json:"goModule"`
	// SockAcceptParams is the number of parameters with which sock_accept of
	// WASI is imported: 3 in WASI and in the second version of WasmEdge's
	// sockets, 2 in the first, 0 when it is not imported.
	SockAcceptParams int `json:"sockAcceptParams"`
	// HasMemory, and its bounds in pages of 64 KiB. A memory without a declared
	// maximum has 65536.
	HasMemory      bool   `json:"hasMemory"`
	MinMemoryPages uint32 `json:"minMemoryPages"`
	MaxMemoryPages uint32 `json:"maxMemoryPages"`
	// DataBytes and DataSegments measure the initial memory.
	DataBytes    int64 `json:"dataBytes"`
	DataSegments int   `json:"dataSegments"`
	Functions    int   `json:"functions"` // defined ones
	HasStart     bool  `json:"hasStart"`  // a start section, which runs while instantiating
}

// Import is one thing that a module asks of its host.
type Import struct {
	Module  string `json:"module"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`    // "function", "table", "memory", "global" or "tag"
	Params  int    `json:"params"`  // of a function
	Results int    `json:"results"` // of a function
}

// Export is one thing that a module offers.
type Export struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // as in Import
}

// Inspect reads a module's facts and refuses what could never run, with an
// *InvalidError whose reason is meant for people. It does not validate code:
// Cache.Prepare does.
func Inspect(wasm []byte) (*Info, error) {
	p, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	return p.info(), nil
}

func (p *parsed) info() *Info {
	info := &Info{DataSegments: len(p.data), Functions: len(p.bodies), HasStart: p.start != nil}
	for _, e := range p.imports {
		imp := Import{Module: e.module, Name: e.name, Kind: kindName(e.kind)}
		if e.kind == kindFunction {
			imp.Params, imp.Results = len(p.types[e.typ].params), len(p.types[e.typ].results)
			if e.name == "sock_accept" && strings.HasPrefix(e.module, "wasi_") {
				info.SockAcceptParams = imp.Params
			}
		}
		info.Imports = append(info.Imports, imp)
	}
	for _, e := range p.exports {
		info.Exports = append(info.Exports, Export{Name: e.name, Kind: kindName(e.kind)})
	}
	if len(p.memories) > 0 {
		m := p.memories[0]
		info.HasMemory, info.MinMemoryPages, info.MaxMemoryPages = true, m.min, maxPages
		if m.bounded {
			info.MaxMemoryPages = m.max
		}
	}
	for _, d := range p.data {
		info.DataBytes += int64(len(d.init))
	}
	p.readProducers(info)
	return info
}

// readProducers takes hints from the producers section (tool conventions of
// WebAssembly, ProducersSection.md); a damaged one gives none.
func (p *parsed) readProducers(info *Info) {
	for _, c := range p.customs {
		if c.name != "producers" {
			continue
		}
		r := &reader{b: c.payload}
		for fields := r.count("fields"); fields > 0 && r.err == nil; fields-- {
			field := r.name()
			for values := r.count("values"); values > 0 && r.err == nil; values-- {
				name, _ := r.name(), r.name()
				switch {
				case r.err != nil:
				case field == "language":
					info.Languages = append(info.Languages, name)
				case field == "processed-by" && name == "Go cmd/compile":
					info.GoModule = true
				}
			}
		}
	}
}

func kindName(kind byte) string {
	names := [...]string{"function", "table", "memory", "global", "tag"}
	if int(kind) < len(names) {
		return names[kind]
	}
	return "unknown"
}

// CheckImports refuses what the host does not offer and names all of it, with
// an *InvalidError.
func CheckImports(info *Info, offered func(module, name string) bool) error {
	var missing []string
	for _, e := range info.Imports {
		switch {
		case e.Module == hostModule:
			return invalid("the module imports %s.%s, but the name %q is reserved", e.Module, e.Name, hostModule)
		case e.Kind != "function":
			return invalid("the module imports the %s %s.%s, but only functions can be imported; build it as a stand-alone module (a %s of its own)",
				e.Kind, e.Module, e.Name, e.Kind)
		case offered != nil && !offered(e.Module, e.Name):
			missing = append(missing, e.Module+"."+e.Name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	more := ""
	if len(missing) > 8 {
		missing, more = missing[:8], " and others"
	}
	return invalid("the module imports functions that are not offered here: %s%s; build it for WASI preview 1 (wasm32-wasip1)",
		strings.Join(missing, ", "), more)
}
