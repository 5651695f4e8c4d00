// Package wasi is the system that guests see: wasi_snapshot_preview1 with
// sockets that park, and the outbound sockets of the WasmEdge extension.
//
// It is written anew rather than on top of wazero's own implementation,
// because that one reports every descriptor as ready (so idle servers spin),
// follows symlinks out of a mounted directory, and keeps its descriptor table
// to itself. Here
//
//   - a guest that waits is a goroutine parked on one channel, its bell, which
//     every connection, listener and stream of the guest rings. It costs no
//     thread and no system call;
//   - files are reached through os.Root only, so no path and no symlink, made
//     by the guest or by the host, leads out of a mount;
//   - descriptors are numbered lowest first, as POSIX demands. 0 to 2 are the
//     standard streams, then come the listening sockets, then one directory
//     per mount. WASI has no working directory: C programs resolve paths
//     against the directories, Go programs start in $PWD.
//
// One host module per wazero.Runtime serves all guests; the Guest travels in
// the context of the call.
//
// Sources: the WASI preview 1 specification (legacy/preview1/docs.md of the
// WASI repository) and, for the extension, the behaviour that the Go and Rust
// clients of WasmEdge sockets expect.
package wasi
