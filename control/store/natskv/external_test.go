package natskv

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

// servers starts n external servers, a cluster when there are several, and
// returns their URLs.
func servers(t *testing.T, n int) string {
	t.Helper()
	routes := make([]*url.URL, n)
	for i := range routes {
		routes[i] = &url.URL{Scheme: "nats", Host: freeAddress(t)}
	}
	var urls []string
	for i, route := range routes {
		opts := &server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, MaxPayload: maxPayload,
		}
		if n > 1 {
			host, port, err := net.SplitHostPort(route.Host)
			if err != nil {
				t.Fatal(err)
			}
			opts.Cluster = server.ClusterOpts{Name: "test", Host: host}
			if _, err := fmt.Sscan(port, &opts.Cluster.Port); err != nil {
				t.Fatal(err)
			}
			opts.Routes = routes
		}
		srv, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		t.Cleanup(func() { stop(srv) })
		if !srv.ReadyForConnections(time.Minute) {
			t.Fatal("the server does not start")
		}
		urls = append(urls, srv.ClientURL())
	}
	return strings.Join(urls, ",")
}

// freeAddress returns an address of this machine that nobody listens on, and
// nobody else will: on 127.0.0.1 its port may be taken by a test of another
// package as soon as it is free.
func freeAddress(t *testing.T) string {
	t.Helper()
	host := "127.0.0.1"
	if runtime.GOOS == "linux" {
		host = fmt.Sprintf("127.126.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)
	}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// external makes places that are buckets of one set of servers.
func external(urls string, replicas int) func(testing.TB) storetest.Place {
	var buckets atomic.Uint32
	return func(testing.TB) storetest.Place {
		cfg := Config{URL: urls, Bucket: fmt.Sprint("b", buckets.Add(1)), Replicas: replicas}
		return func(t testing.TB) (store.Log, func()) { return run(t, cfg) }
	}
}

func TestExternalServer(t *testing.T) {
	urls := servers(t, 1)
	t.Run("Log", func(t *testing.T) { storetest.TestLog(t, external(urls, 1)) })
	t.Run("TwoProcesses", func(t *testing.T) { testTwoProcesses(t, external(urls, 1)(t)) })
}

func TestThreeServers(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster takes seconds to form")
	}
	urls := servers(t, 3)
	storetest.TestLog(t, external(urls, 3))
}

// testTwoProcesses lets two stores share a bucket, as separate processes do.
func testTwoProcesses(t *testing.T, place storetest.Place) {
	one, _ := storetest.Start(t, place, store.Options{})
	two, _ := storetest.Start(t, place, store.Options{})
	ctx := t.Context()
	revision := uint64(0)
	for i := range 50 {
		writer, reader := one, two
		if i%2 == 1 {
			writer, reader = two, one
		}
		e, err := writer.Put(ctx, "k", []byte(fmt.Sprint(i)), revision)
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.WaitRevision(ctx, e.Revision); err != nil {
			t.Fatal(err)
		}
		got, err := reader.Get(ctx, "k")
		if err != nil || got.Revision != e.Revision {
			t.Fatalf("write %d: the other process has %v, %v", i, got, err)
		}
		revision = e.Revision
	}
	e, err := two.Delete(ctx, "k", revision)
	if err != nil {
		t.Fatal(err)
	}
	// The other process creates over the tombstone, whether it has seen it or not.
	if _, err := one.Put(ctx, "k", nil, 0); err != nil {
		t.Errorf("create after the deletion at %d: %v", e.Revision, err)
	}
}
