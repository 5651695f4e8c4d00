package wasm

import (
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// Report says what a module is and how it would be prepared, without compiling
// or running it.
type Report struct {
	Bytes int `json:"bytes"`
	// Kind is "command" for a program, "library" for what only has functions to
	// be called; empty when it is refused.
	Kind string `json:"kind,omitempty"`
	// Refused says why the module cannot run here, and what to do; empty when it
	// can, as far as can be said without compiling.
	Refused string `json:"refused,omitempty"`
	// Sockets is what the module uses of them; empty: none.
	Sockets  string       `json:"sockets,omitempty"`
	Module   *module.Info `json:"module,omitempty"` // nil when it cannot be read
	Prepared *Prepared    `json:"prepared,omitempty"`
}

// Prepared is what admission would make of a module.
type Prepared struct {
	Version    string `json:"version"` // of the rewriter
	Bytes      int    `json:"bytes"`   // after the rewrite, before compilation
	ImageBytes int    `json:"imageBytes"`
}

// Inspect reports on a module.
func Inspect(code []byte) Report {
	r := Report{Bytes: len(code)}
	info, err := module.Inspect(code)
	if err != nil {
		r.Refused = err.Error()
		return r
	}
	r.Module, r.Sockets = info, usedSockets(info)
	if err := module.CheckImports(info, offered); err != nil {
		r.Refused = err.Error()
		return r
	}
	out, err := module.Rewrite(code)
	if err != nil {
		r.Refused = err.Error()
		return r
	}
	r.Prepared = &Prepared{Version: module.RewriteVersion, Bytes: len(out.Wasm), ImageBytes: len(out.Image)}
	if r.Kind = "library"; exports(info, startFunction) {
		r.Kind = "command"
	}
	return r
}

// offered says which functions guests can import.
func offered(from, name string) bool { return from == wasi.ModuleName && wasi.Has(name) }

func usedSockets(info *module.Info) string {
	opens := false
	for _, i := range info.Imports {
		opens = opens || i.Name == "sock_open"
	}
	switch {
	case opens && needsFirstSockets(info):
		return "opens its own, in the first version of the WasmEdge extension"
	case opens:
		return "opens its own, in the second version of the WasmEdge extension"
	case info.SockAcceptParams > 0:
		return "accepts connections of listeners that it is given"
	}
	return ""
}
