// Package module admits WebAssembly modules: it checks what a file is, rewrites
// it so that a guest can be preempted, throttled and killed, compiles it once
// per digest, keeps the result on disk, and gives every instance a memory of
// its own. It knows wazero and nothing of pods.
//
// Compiled guest code cannot be preempted by Go's scheduler: a guest that spins
// would keep a garbage collection from ever starting. The rewriter therefore
// adds a counter ("fuel", a mutable i64 global that only the rewriter's code can
// name) that loop headers and the entries of calling functions lower by the
// work that follows. When it has fallen below zero, a function of the rewriter's
// asks the imported function wherry.yield for more. A Meter answers that call.
//
// Large initial memories leave the module and become a memory image: on Linux
// it is mapped copy-on-write into each instance, elsewhere it is copied.
package module
