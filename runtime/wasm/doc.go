// Package wasm runs pods as WebAssembly modules inside this process: a
// container is a goroutine, its sockets are pipes in memory, its files lie
// behind os.Root. It implements package sandbox.
//
// What a guest finds:
//
//   - argv and environment as the pod says, PWD set to its working directory,
//     LISTEN_FDS and LISTEN_FDNAMES as in systemd's socket activation;
//   - one listening socket per container port from descriptor 3 on, in the
//     order of the ports, non-blocking for Go modules, blocking for others;
//   - after them one directory per mount, named by its target. There is no
//     root directory: what is not mounted does not exist;
//   - a port accepts connections from the start of the container on; they wait
//     until the guest takes them.
//
// Exit codes: what the guest passed to proc_exit; 134 for a trap; 137 when it
// was killed, with reason OOMKilled when it died of a refused allocation; 143
// when it was ended and there was nothing to tell it by.
package wasm
