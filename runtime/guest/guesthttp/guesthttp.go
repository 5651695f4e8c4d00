// Package guesthttp gives Go programs compiled for GOOS=wasip1 an HTTP client
// over the network of their pod; see package guest.
package guesthttp

import (
	"net/http"

	"wherry.dev/wherry/runtime/guest"
)

// Transport returns a new transport with the settings of
// http.DefaultTransport that dials through package guest.
func Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = guest.DialContext
	t.Proxy = nil // a pod has no proxy of its own
	return t
}

// Client returns a new client over a new Transport.
func Client() *http.Client { return &http.Client{Transport: Transport()} }
