package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
)

// natsServer runs a server that keeps the store of several processes.
func natsServer(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, MaxPayload: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

// TestTwoControlPlanesOnOneStore: both serve the API, one of them runs the
// loops. When it ends the other one goes on where it was, and no pod is made
// or bound twice.
func TestTwoControlPlanesOnOneStore(t *testing.T) {
	url := natsServer(t)
	shared := func(c *app.Config) { c.StoreURL = url }
	first := clustertest.New(t, clustertest.Nodes(0), shared)
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "pki"), os.DirFS(filepath.Join(first.DataDir, "pki"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "WHERRY"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second := clustertest.New(t, clustertest.Nodes(0), clustertest.DataDir(dir), shared)
	// Both serve the Services of one cluster, and there is one machine here.
	first.ExpectWarnings("service address not bound")
	second.ExpectWarnings("service address not bound")
	ctx, cancel := context.WithTimeout(t.Context(), 2*clustertest.Patience)
	defer cancel()
	crowd := bench.Crowd{Client: second.Client, Nodes: 3}
	if err := crowd.Register(ctx); err != nil {
		t.Fatal(err)
	}
	alive, die := context.WithCancel(ctx)
	var nodes sync.WaitGroup
	nodes.Go(func() {
		if err := crowd.Run(alive); err != nil {
			t.Error(err)
		}
	})
	defer nodes.Wait()
	defer die()
	leader := func() string {
		lease, err := api.Get[*coordinationv1.Lease](ctx, second.Client, api.Leases.Key("kube-system", "wherry-control-loops"))
		if err != nil {
			t.Fatal(err)
		}
		return *lease.Spec.HolderIdentity
	}
	flood := func(through *clustertest.Cluster, name string) {
		t.Helper()
		if _, err := (bench.Flood{Client: through.Client, Namespace: "default", Pods: 20}).Run(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	flood(second, "one")
	before := leader()
	first.Stop()
	flood(second, "two")
	if after := leader(); before == after || after == "" {
		t.Errorf("led by %q before and %q after the first one's end", before, after)
	}
	list, err := second.Client.List(ctx, api.Pods.Key("default", ""), api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, obj := range list.Items {
		counts[obj.GetLabels()["bench"]]++
		if obj.(*corev1.Pod).Spec.NodeName == "" {
			t.Errorf("%s has no node", obj.GetName())
		}
	}
	if got := fmt.Sprint(counts); got != "map[one:20 two:20]" {
		t.Errorf("pods %s", got)
	}
}
