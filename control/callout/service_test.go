package callout

import (
	"context"
	"errors"
	"net"
	"testing"
)

// TestServiceIn: the names of Services, and only those, lead into the cluster.
func TestServiceIn(t *testing.T) {
	for host, want := range map[string]string{
		"dex.auth.svc":                "auth/dex",
		"DEX.auth.svc.cluster.local.": "auth/dex",
		"dex.auth.svc.example.com":    "",
		"auth.svc":                    "",
		"pod.dex.auth.svc":            "",
		".auth.svc":                   "",
		"dex.auth":                    "",
		"127.0.0.1":                   "",
	} {
		namespace, name, ok := serviceIn(host)
		if got := namespace + "/" + name; ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s %t, want %q", host, got, ok, want)
		}
	}
}

func TestDialHost(t *testing.T) {
	var asked, dialled string
	far := errors.New("far enough")
	c := NewClients(Config{
		Resolve: func(_ context.Context, namespace, service, port string) (string, error) {
			asked = namespace + "/" + service + ":" + port
			return "127.64.0.1:8443", nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = address
			return nil, far
		},
	})
	_, err := c.DialHost(t.Context(), "tcp", "dex.auth.svc:443")
	if !errors.Is(err, far) || asked != "auth/dex:443" || dialled != "127.64.0.1:8443" {
		t.Errorf("%v: asked for %q and dialled %q", err, asked, dialled)
	}
}
