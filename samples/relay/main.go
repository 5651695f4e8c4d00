// Command relay is an HTTP server for Wherry that answers with what another
// server says: it shows how a Go guest listens and dials.
//
//	GOOS=wasip1 GOARCH=wasm go build -o relay.wasm ./samples/relay
//
// It listens on PORT (8080) and fetches UPSTREAM, for example
// http://hello.default.svc/.
package main

import (
	"cmp"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"wherry.dev/wherry/runtime/guest"
	"wherry.dev/wherry/runtime/guest/guesthttp"
)

func main() {
	listener, err := guest.Listen("tcp", ":"+cmp.Or(os.Getenv("PORT"), "8080"))
	if err != nil {
		log.Fatalf("relay: %v", err)
	}
	log.Printf("relay listens on %s", listener.Addr())
	client := guesthttp.Client()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := client.Get(os.Getenv("UPSTREAM"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		fmt.Fprintf(w, "%s was told: ", r.RemoteAddr)
		_, _ = io.Copy(w, answer.Body)
	})
	log.Printf("relay ends: %v", http.Serve(listener, handler))
}
