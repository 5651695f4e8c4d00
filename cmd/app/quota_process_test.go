package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestQuotaOfTwoProcesses: many create through two servers, each a process of
// the operating system, what a quota of the one store has room for a part of. As
// many as it has room for get through, whatever races with what.
func TestQuotaOfTwoProcesses(t *testing.T) {
	const room, creators, tries = 40, 32, 4
	url, networks := natsServer(t), clustertest.Claim(t)
	flags := []string{"--nodes", "0", "--no-kubeconfig", "--store-url", url}
	var clients []*kubernetes.Clientset
	var dirs []string
	for i := range 2 {
		dirs = append(dirs, t.TempDir())
		if i > 0 { // the servers of one cluster have the same keys
			if err := os.CopyFS(filepath.Join(dirs[i], "pki"), os.DirFS(filepath.Join(dirs[0], "pki"))); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dirs[i], "WHERRY"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		stop, _ := startProcess(t, networks, dirs[i], flags...)
		defer stop()
		clients = append(clients, processClient(t, dirs[i]))
	}
	ctx := t.Context()
	quotas := clients[0].CoreV1().ResourceQuotas("default")
	limit := resource.MustParse(fmt.Sprint(room))
	const counted corev1.ResourceName = "count/secrets"
	_, err := quotas.Create(ctx, &corev1.ResourceQuota{ObjectMeta: metaNamed("few"),
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: limit}}}, createOptions)
	if err != nil {
		t.Fatal(err)
	}
	used := func(want string) func() error {
		return func() error {
			quota, err := quotas.Get(ctx, "few", getOptions)
			if err != nil {
				return err
			}
			if got, ok := quota.Status.Used[counted]; !ok || got.String() != want {
				return fmt.Errorf("used are %v, want %s", quota.Status.Used, want)
			}
			return nil
		}
	}
	untilNil(t, "the quota is counted", used("0"))
	var mu sync.Mutex
	made := 0
	var all sync.WaitGroup
	for creator := range creators {
		secrets := clients[creator%len(clients)].CoreV1().Secrets("default")
		all.Go(func() {
			for try := range tries {
				_, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metaNamed(fmt.Sprintf("s-%d-%d", creator, try))}, createOptions)
				switch {
				case err == nil:
					mu.Lock()
					made++
					mu.Unlock()
				case !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "exceeded quota: few"):
					t.Errorf("creator %d: %v", creator, err)
				}
			}
		})
	}
	all.Wait()
	if made != room {
		t.Errorf("%d were made where there is room for %d", made, room)
	}
	for i, client := range clients {
		list, err := client.CoreV1().Secrets("default").List(ctx, listOptions)
		if err != nil || len(list.Items) != room {
			t.Errorf("server %d has %d of them, %v", i, len(list.Items), err)
		}
	}
	untilNil(t, "the quota is used up", used(fmt.Sprint(room)))
}
