package app

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/cmd/app/console"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/dashboard"
)

func newDashboard(at *target, streams Streams) *cobra.Command {
	var address string
	var noOpen bool
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Open the cluster's web page, with your own rights",
		Long: "Open the cluster's web page, with your own rights. The command serves the page on this machine and passes its\n" +
			"requests on with the credentials of your kubeconfig; only who has the link that it prints can use it. It works\n" +
			"with other Kubernetes clusters too (--context).\n\n" +
			"The control plane serves the same page at " + dashboard.Path + " of its own address, for those who have a token.",
		Example: "  wherry dashboard\n  wherry dashboard --no-open --address 127.0.0.1:9090",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			config, err := at.rest()
			if err != nil {
				return err
			}
			var listen net.ListenConfig
			listener, err := listen.Listen(ctx, "tcp", address)
			if err != nil {
				return fmt.Errorf("%w (choose another with --address)", err)
			}
			gate, err := newGate(config, listener.Addr().String())
			if err != nil {
				return errors.Join(err, listener.Close())
			}
			out := console.New(streams.Out)
			out.Field("Dashboard", "%s", gate.link())
			out.Printf("The link logs in whoever opens it. Ctrl-C ends it.")
			if !noOpen && out.Terminal() {
				if err := openBrowser(ctx, gate.link()); err != nil {
					out.Printf("Open the link yourself: %v", err)
				}
			}
			return gate.serve(ctx, listener)
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1:0", "address on which the page is served; port 0 picks a free one")
	cmd.Flags().BoolVar(&noOpen, "no-open", false, "do not start a browser")
	return cmd
}

func openBrowser(ctx context.Context, link string) error {
	command := map[string][]string{"darwin": {"open"}, "windows": {"rundll32", "url.dll,FileProtocolHandler"}}[runtime.GOOS]
	if command == nil {
		command = []string{"xdg-open"}
	}
	return exec.CommandContext(ctx, command[0], append(command[1:], link)...).Run()
}

// gate lets one viewer's browser speak to the API server with the viewer's
// credentials, and nobody else: the secret of the link becomes a cookie, and
// requests that other pages send are refused.
type gate struct {
	host   string // of the gate itself
	secret string
	page   http.Handler
	proxy  *httputil.ReverseProxy
}

const (
	gateCookie = "wherry-dashboard"
	loginPath  = "/login"
)

func newGate(config *rest.Config, host string) (*gate, error) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	server, _, err := rest.DefaultServerURL(config.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig's server %q is no URL: %w", config.Host, err)
	}
	page, err := dashboard.Handler()
	if err != nil {
		return nil, err
	}
	return &gate{host: host, secret: rand.Text(), page: page, proxy: &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(server)
			r.Out.Header.Del("Cookie")
			r.Out.Header.Del("Authorization")
			r.Out.Header.Del("Origin")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "the API server does not answer: "+err.Error(), http.StatusBadGateway)
		},
	}}, nil
}

// link is what a browser opens first.
func (g *gate) link() string {
	return "http://" + g.host + loginPath + "?key=" + url.QueryEscape(g.secret)
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Another name for this address is a page elsewhere that had it resolved here.
	if r.Host != g.host {
		http.Error(w, "this is "+g.host, http.StatusMisdirectedRequest)
		return
	}
	if r.URL.Path == loginPath {
		g.login(w, r)
		return
	}
	cookie, err := r.Cookie(gateCookie)
	if err != nil || !g.knows(cookie.Value) {
		http.Error(w, "open the link that \"wherry dashboard\" printed", http.StatusUnauthorized)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+g.host {
		http.Error(w, "requests of other pages are refused", http.StatusForbidden)
		return
	}
	switch {
	case r.URL.Path == "/favicon.ico": // asked for by browsers on their own
		http.Redirect(w, r, dashboard.Path+"icon.svg", http.StatusFound)
	case r.URL.Path == "/":
		http.Redirect(w, r, dashboard.Path, http.StatusFound)
	case isPage(r.URL.Path):
		g.page.ServeHTTP(w, r)
	default:
		g.proxy.ServeHTTP(w, r)
	}
}

func (g *gate) knows(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(g.secret)) == 1
}

func (g *gate) login(w http.ResponseWriter, r *http.Request) {
	if !g.knows(r.URL.Query().Get("key")) {
		http.Error(w, "the link is not this dashboard's: open the one that was printed last", http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: gateCookie, Value: g.secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.Header().Set("Referrer-Policy", "no-referrer")
	// A redirect would be part of a navigation that another site began, and the
	// strict cookie would not go with it.
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!doctype html><meta http-equiv=refresh content=\"0;url=%s\"><a href=%q>Wherry</a>", dashboard.Path, dashboard.Path)
}

// serve serves until ctx ends.
func (g *gate) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: g, ReadHeaderTimeout: 30 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pageForAll lets everybody read the files of the page, which tell nothing.
type pageForAll struct{}

// Authorize implements auth.Authorizer.
func (pageForAll) Authorize(_ context.Context, a auth.Attributes) (bool, string, error) {
	return a.Resource == "" && (a.Verb == "get" || a.Verb == "head") && isPage(a.Path), "", nil
}

// isPage tells the page's paths, the one without the last slash included.
func isPage(path string) bool { return strings.HasPrefix(path+"/", dashboard.Path) }
