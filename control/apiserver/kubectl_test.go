package apiserver_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: example.com/web:1
        ports: [{containerPort: 8080}]
`

// kubectl runs the kubectl of this machine against a cluster.
type kubectl struct {
	t      *testing.T
	binary string
	config string
	home   string
}

func newKubectl(t *testing.T, c *cluster) kubectl {
	binary, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("this machine has no kubectl")
	}
	return kubectl{t: t, binary: binary, config: c.kubeconfig(), home: t.TempDir()}
}

// try returns what kubectl prints, errors included.
func (k kubectl) try(stdin string, args ...string) (string, error) {
	k.t.Helper()
	cmd := exec.Command(k.binary, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.config, "HOME="+k.home, "KUBECACHEDIR="+filepath.Join(k.home, "cache"))
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func TestKubectl(t *testing.T) {
	c := newCluster(t, nil)
	k := newKubectl(t, c)
	changed := strings.Replace(deployment, "web:1", "web:2", 1)
	for _, step := range []struct {
		name  string
		stdin string
		args  string
		fails bool
		want  []string // each must be in the output
	}{
		{"api-resources", "", "api-resources", false, []string{"deployments", "deploy", "apps/v1", "ReplicaSet", "svc"}},
		{"api-versions", "", "api-versions", false, []string{"apps/v1", "coordination.k8s.io/v1", "v1"}},
		{"version", "", "version", false, []string{"Server Version: v1.37.2+wherry"}},
		{"cluster-info", "", "cluster-info", false, []string{"control plane"}},
		{"create namespace", "", "create namespace team", false, []string{"namespace/team created"}},
		{"create configmap", "", "create configmap settings --from-literal=a=b", false, []string{"configmap/settings created"}},
		{"create validates", strings.Replace(deployment, "replicas", "replicaz", 1), "create -f -", true, []string{`unknown field "spec.replicaz"`}},
		{"unknown kind", strings.Replace(deployment, "kind: Deployment", "kind: Deploy", 1), "create -f -", true, []string{`no matches for kind "Deploy" in version "apps/v1"`}},
		{"warn only", strings.Replace(deployment, "replicas: 2", "replicas: 2\n  foo: 1", 1), "apply --validate=warn --dry-run=server -f -", false, []string{`unknown field "spec.foo"`}},
		{"apply", deployment, "apply -f -", false, []string{"deployment.apps/web created"}},
		{"apply again", deployment, "apply -f -", false, []string{"deployment.apps/web unchanged"}},
		{"diff", changed, "diff -f -", true, []string{"web:2"}},
		{"apply change", changed, "apply -f -", false, []string{"deployment.apps/web configured"}},
		{"get", "", "get deploy", false, []string{"NAME", "READY", "UP-TO-DATE", "AVAILABLE", "web", "0/2"}},
		{"get wide", "", "get deploy -o wide", false, []string{"CONTAINERS", "IMAGES", "example.com/web:2", "app=web"}},
		{"get yaml", "", "get deploy web -o yaml", false, []string{"apiVersion: apps/v1", "image: example.com/web:2"}},
		{"get jsonpath", "", "get deploy -o jsonpath={.items[*].metadata.name}", false, []string{"web"}},
		{"get sorted", "", "get ns --sort-by=.metadata.name", false, []string{"default", "kube-system", "team"}},
		{"get all namespaces", "", "get svc -A", false, []string{"NAMESPACE", "default", "kubernetes", "ClusterIP"}},
		{"get nothing", "", "get pods", false, []string{"No resources found in default namespace."}},
		{"get unknown", "", "get nosuch", true, []string{`the server doesn't have a resource type "nosuch"`}},
		{"get missing", "", "get pod nosuch", true, []string{`pods "nosuch" not found`}},
		{"describe", "", "describe deploy web", false, []string{"RollingUpdate", "example.com/web:2"}},
		{"scale", "", "scale deploy web --replicas=5", false, []string{"deployment.apps/web scaled"}},
		{"scaled", "", "get deploy web -o jsonpath={.spec.replicas}", false, []string{"5"}},
		{"wait", "", "wait deploy/web --for=jsonpath={.spec.replicas}=5 --timeout=180s", false, []string{"condition met"}},
		{"rollout status", "", "rollout status deploy/web --timeout=1s", true, []string{"Waiting for deployment spec update to be observed"}},
		{"watch", "", "get deploy -w --request-timeout=1s", false, []string{"NAME", "web", "0/5"}},
		{"label", "", "label deploy web tier=front", false, []string{"labeled"}},
		{"selector", "", "get deploy -l tier=front -o name", false, []string{"deployment.apps/web"}},
		{"json patch", "", `patch deploy web --type=json -p [{"op":"replace","path":"/spec/replicas","value":3}]`, false, []string{"patched"}},
		{"merge patch", "", `patch deploy web --type=merge -p {"spec":{"replicas":4}}`, false, []string{"patched"}},
		{"set image", "", "set image deploy/web main=example.com/web:3", false, []string{"image updated"}},
		{"explain", "", "explain deploy.spec.strategy", false, []string{"rollingUpdate", "FIELD: strategy <DeploymentStrategy>"}},
		{"explain recursive", "", "explain pods --recursive", false, []string{"containers", "livenessProbe", "KIND:       Pod"}},
		{"run", "", "run one --image=example.com/one:1", false, []string{"pod/one created"}},
		{"logs of a pod without a node", "", "logs one", false, nil},
		{"logs of a wrong container", "", "logs one -c two", true, []string{"container two is not valid for pod one"}},
		{"events", "", "get events", false, []string{"No resources found"}},
		{"delete", "", "delete deploy web", false, []string{`deployment.apps "web" deleted`}},
		{"delete all", "", "delete configmaps --all", false, []string{"deleted"}},
		{"delete now", "", "delete pod one --now", false, []string{`pod "one" deleted`}},
		{"unknown path", "", "get --raw /apis/nosuch", true, []string{"the server could not find the requested resource"}},
		{"health", "", "get --raw /readyz?verbose", false, []string{"[+]ping ok", "readyz check passed"}},
		{"metrics", "", "get --raw /metrics", false, []string{"apiserver_request_total{"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			out, err := kubectl{t: t, binary: k.binary, config: k.config, home: k.home}.try(step.stdin, strings.Fields(step.args)...)
			if (err != nil) != step.fails {
				t.Errorf("kubectl %s: error %v", step.args, err)
			}
			for _, want := range step.want {
				if !strings.Contains(out, want) {
					t.Errorf("output lacks %q", want)
				}
			}
			if t.Failed() {
				t.Logf("kubectl %s:\n%s", step.args, out)
			}
		})
	}
}
