package agent

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// dialBox is a sandbox that can be dialled only.
type dialBox struct {
	sandbox.Sandbox
	to string
}

func (b dialBox) Dial(ctx context.Context, port uint16, _ net.Addr) (net.Conn, error) {
	if port != 9000 {
		return nil, sandbox.ErrConnRefused
	}
	return new(net.Dialer).DialContext(ctx, "tcp", b.to)
}

// healthServer answers Check as a gRPC server does.
func healthServer(t *testing.T) string {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("request %s %v, %v", r.URL, r.Header, err)
		}
		service := ""
		if len(body) > 7 {
			service = string(body[7:])
		}
		w.Header().Set("Content-Type", "application/grpc")
		switch service {
		case "", "up":
			w.Write([]byte{0, 0, 0, 0, 2, 8, 1})
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		case "down":
			w.Write([]byte{0, 0, 0, 0, 2, 8, 2})
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		case "none":
			w.Header().Set("Grpc-Status", "12")
			w.Header().Set("Grpc-Message", "unknown service grpc.health.v1.Health")
		case "garbage":
			w.Write([]byte("hello"))
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		case "plain":
			w.Write(bytes.Repeat([]byte("x"), 10))
		default:
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "unknown service")
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestGRPCProbe(t *testing.T) {
	p := &prober{box: dialBox{to: healthServer(t)}, ip: netip.MustParseAddr("127.64.1.1")}
	for name, tt := range map[string]struct {
		port    int32
		service *string
		text    string // "": success
	}{
		"no service":    {9000, nil, ""},
		"serving":       {9000, ptrTo("up"), ""},
		"not serving":   {9000, ptrTo("down"), `service unhealthy (responded with "NOT_SERVING")`},
		"unknown":       {9000, ptrTo("other"), "health rpc probe failed: code 5: unknown service"},
		"unimplemented": {9000, ptrTo("none"), "does not implement the grpc health protocol"},
		"garbage":       {9000, ptrTo("garbage"), "no gRPC message"},
		"no gRPC":       {9000, ptrTo("plain"), "has no grpc-status"},
		"refused":       {9001, nil, "failed to connect service \"127.64.1.1:9001\": dial tcp 127.64.1.1:9001: connect: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			o := p.grpc(t.Context(), &corev1.GRPCAction{Port: tt.port, Service: tt.service})
			if tt.text == "" {
				if o.result != probeSuccess {
					t.Errorf("got %+v", o)
				}
				return
			}
			if o.result != probeFailure || !strings.Contains(o.text, tt.text) {
				t.Errorf("got %+v, want a failure with %q", o, tt.text)
			}
		})
	}
}

func ptrTo[T any](v T) *T { return &v }
