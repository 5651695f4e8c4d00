// Package guest gives Go programs compiled for GOOS=wasip1 the network of their
// pod: Listen, Dial and DialContext as in package net, whose own need a system
// that WASI preview 1 does not describe.
//
//	listener, err := guest.Listen("tcp", ":8080")
//	conn, err := guest.Dial("tcp", "db.default.svc:5432")
//
// Package guesthttp does the same for HTTP clients. Programs are built as any
// other, without flags:
//
//	GOOS=wasip1 GOARCH=wasm go build -o app.wasm .
//
// On every other system the functions are those of package net, so that the
// same program can be run and tested natively.
//
// The functions that a program does not call are not linked, and do not appear
// among the imports of its module. They are those of the WasmEdge socket
// extension in its second version, so that such modules run wherever that is
// offered. A lookup of a name holds up the whole program, which has one thread;
// everything else holds up the calling goroutine only.
package guest
