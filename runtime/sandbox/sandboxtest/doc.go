// Package sandboxtest is the suite that every sandbox.Runtime has to pass.
//
// Its guests are Go programs of testdata, built by the stock toolchain when a
// test first needs them, once per process.
package sandboxtest
