package app_test

import (
	"bufio"
	"os"
	"regexp"
	"testing"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestKubectlWatch follows "kubectl get -w" line by line.
func TestKubectlWatch(t *testing.T) {
	c := clustertest.New(t)
	c.Kubectl("create", "configmap", "seen", "--from-literal=a=1")
	cmd := c.Command("kubectl", "get", "configmap", "seen", "--watch", "--output-watch-events")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, step := range []struct {
		args []string
		want string
	}{
		{nil, `^EVENT +NAME +DATA +AGE$`},
		{nil, `^ADDED +seen +1 `},
		{[]string{"patch", "configmap", "seen", "-p", `{"data":{"b":"2"}}`}, `^MODIFIED +seen +2 `},
		{[]string{"delete", "configmap", "seen"}, `^DELETED +seen +2 `},
	} {
		if step.args != nil {
			c.Kubectl(step.args...)
		}
		if !lines.Scan() {
			t.Fatalf("the watch ended before %s: %v", step.want, lines.Err())
		}
		if !regexp.MustCompile(step.want).MatchString(lines.Text()) {
			t.Errorf("got %q, want %s", lines.Text(), step.want)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Errorf("more than was asked for: %q", lines.Text())
	}
	_ = cmd.Wait() // ended by the signal
}
