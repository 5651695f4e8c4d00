// Command hello is an HTTP server for Wherry: it answers with the name of its
// pod and a counter. It is built by the stock Go toolchain,
//
//	GOOS=wasip1 GOARCH=wasm go build -o hello.wasm ./samples/hello
//
// and imports nothing of Wherry. A pod's container ports are listening sockets
// from descriptor 3 on, as systemd hands them over (LISTEN_FDS).
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
)

func main() {
	listener, err := net.FileListener(os.NewFile(3, "http"))
	if err != nil {
		log.Fatalf("hello: descriptor 3 is no listening socket: give the container a port (%v)", err)
	}
	var requests atomic.Int64
	pod := os.Getenv("POD_NAME")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello from %s, request %d\n", pod, requests.Add(1))
	})
	log.Printf("%s listens", pod)
	// Serve returns when the pod is told to end: its listener closes.
	log.Printf("%s ends: %v", pod, http.Serve(listener, handler))
}
