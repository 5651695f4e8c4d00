// Command guesthook is an admission webhook that runs as a guest: it serves TLS
// with the certificate that is mounted in /tls and refuses whatever it is asked
// about.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"wherry.dev/wherry/runtime/guest"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "guesthook:", err)
		os.Exit(1)
	}
}

func serve() error {
	pair, err := tls.LoadX509KeyPair("/tls/tls.crt", "/tls/tls.key")
	if err != nil {
		return err
	}
	listener, err := guest.Listen("tcp", ":8443")
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return http.Serve(tls.NewListener(listener, config), http.HandlerFunc(review))
}

// review answers as https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
// has it.
func review(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Request struct {
			UID, Name string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": map[string]any{
		"uid": asked.Request.UID, "allowed": false, "status": map[string]any{"message": "a guest refuses " + asked.Request.Name}}})
}
