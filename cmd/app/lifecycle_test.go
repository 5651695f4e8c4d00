package app_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/jsonpath"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// TestLifecycle runs the cases of testdata/lifecycle, all at once on one node.
// A case is a txtar archive: a comment that says what is promised, manifests,
// and a file "expect" with steps that must come true in this order:
//
//	pod NAME TEMPLATE = REGEXP   a state of the pod in which kubectl's jsonpath
//	                             template gives exactly that
//	never NAME TEMPLATE = REGEXP no state since the step before was like that
//	event NAME REASON: REGEXP    an event about the pod
//	gone NAME                    the pod is no more
//	kubectl ARGS...              a command that must succeed
//	refused REGEXP: ARGS...      one that must fail, saying that
//
// States are those that a watch shows, so none goes unseen; events are judged
// in an order of their own, because they are written beside the states.
func TestLifecycle(t *testing.T) {
	files, err := filepath.Glob("testdata/lifecycle/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	c := clustertest.New(t)
	for ref, module := range map[string][]byte{
		"hello:v1": samples.HelloModule, "good:v1": returns, "bad:v1": exits(1), "code42:v1": exits(42), "trap:v1": traps,
		"greedy:v1": growsAndDie, "spin:v1": spinModule, "said:v1": printerModule("one\nlast words\n", 3), "library:v1": library,
	} {
		c.Push(ref, module)
	}
	// Parallel tests are as many as processors, and most of these wait.
	var group sync.WaitGroup
	for _, file := range files {
		group.Go(func() {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runCase(t, c, file) })
		})
	}
	group.Wait()
}

func runCase(t *testing.T, c *clustertest.Cluster, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t: t, c: c, ns: strings.TrimSuffix(filepath.Base(file), ".txt"), dir: t.TempDir()}
	_, err = c.Client.Create(t.Context(), api.Namespaces.Key("", l.ns), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.ns}}, api.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.follow()()
	defer func() {
		if t.Failed() {
			t.Log(l.story())
		}
	}()
	var steps []byte
	for _, f := range archive.Files {
		if f.Name == "expect" {
			steps = f.Data
			continue
		}
		data := bytes.ReplaceAll(f.Data, []byte("$DIR"), []byte(l.dir))
		if err := os.WriteFile(filepath.Join(l.dir, f.Name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l.kubectl("apply", "-f", f.Name)
	}
	for number, step := range strings.Split(string(steps), "\n") {
		if step = strings.TrimSpace(step); step != "" && !strings.HasPrefix(step, "#") {
			l.at = fmt.Sprintf("step %d, %q", number+1, step)
			l.step(step)
		}
	}
}

// casePatience bounds the wait for one step.
const casePatience = 60 * time.Second

// life is one case under way.
type life struct {
	t   *testing.T
	c   *clustertest.Cluster
	ns  string
	dir string
	at  string // the current step, for messages

	mu     sync.Mutex
	news   chan struct{} // closed at the next one
	states []state
	events []*corev1.Event
	// Steps look from here on.
	nextState, nextEvent int
}

// state is a pod as the watch has shown it; nil pod: it is gone.
type state struct {
	name string
	pod  *corev1.Pod
}

// follow collects what the watches of pods and events show until the returned
// function is called.
func (l *life) follow() (stop func()) {
	l.news = make(chan struct{})
	ctx, cancel := context.WithCancel(l.t.Context())
	var group sync.WaitGroup
	for _, r := range []api.Resource{api.Pods, api.Events} {
		w, err := l.c.Client.Watch(ctx, r.Key(l.ns, ""), api.ListOptions{SendInitialEvents: true})
		if err != nil {
			l.t.Fatal(err)
		}
		group.Go(func() {
			defer w.Stop()
			for {
				event, err := w.Next(ctx)
				if err != nil {
					return
				}
				l.take(event)
			}
		})
	}
	return func() { cancel(); group.Wait() }
}

func (l *life) take(e api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch obj := e.Object.(type) {
	case *corev1.Pod:
		s := state{obj.Name, obj}
		if e.Type == watch.Deleted {
			s.pod = nil
		}
		if e.Type != watch.Bookmark {
			l.states = append(l.states, s)
		}
	case *corev1.Event:
		if e.Type != watch.Bookmark && e.Type != watch.Deleted {
			l.events = append(l.events, obj)
		}
	}
	close(l.news)
	l.news = make(chan struct{})
}

// until waits for the first thing from *next on that is as wanted, and sets
// *next behind it.
func (l *life) until(next *int, count func() int, wanted func(i int) bool) {
	l.t.Helper()
	patience := time.NewTimer(casePatience)
	defer patience.Stop()
	for i := *next; ; {
		l.mu.Lock()
		n, news := count(), l.news
		l.mu.Unlock()
		for ; i < n; i++ {
			if wanted(i) {
				*next = i
				return
			}
		}
		select {
		case <-news:
		case <-patience.C:
			l.t.Fatalf("%s: did not come true", l.at)
		case <-l.t.Context().Done():
			l.t.Fatal(l.at, l.t.Context().Err())
		}
	}
}

var (
	stateStep = regexp.MustCompile(`^(pod|never) (\S+) (\{.*\}) = ?(.*)$`)
	eventStep = regexp.MustCompile(`^event (\S+) (\w+): ?(.*)$`)
	goneStep  = regexp.MustCompile(`^gone (\S+)$`)
	runStep   = regexp.MustCompile(`^kubectl (.+)$`)
	failStep  = regexp.MustCompile(`^refused (.+): (\S.*)$`)
)

func (l *life) step(text string) {
	l.t.Helper()
	if m := stateStep.FindStringSubmatch(text); m != nil {
		is := l.matcher(m[2], m[3], m[4])
		if m[1] == "never" {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, s := range l.states[l.nextState:] {
				if is(s) {
					l.t.Errorf("%s: it was", l.at)
				}
			}
			return
		}
		l.until(&l.nextState, func() int { return len(l.states) }, func(i int) bool { return is(l.stateAt(i)) })
		return
	}
	if m := eventStep.FindStringSubmatch(text); m != nil {
		pattern := l.pattern(m[3])
		l.until(&l.nextEvent, func() int { return len(l.events) }, func(i int) bool {
			l.mu.Lock()
			e := l.events[i]
			l.mu.Unlock()
			return e.InvolvedObject.Name == m[1] && e.Reason == m[2] && pattern.MatchString(e.Message)
		})
		return
	}
	if m := goneStep.FindStringSubmatch(text); m != nil {
		l.until(&l.nextState, func() int { return len(l.states) }, func(i int) bool { s := l.stateAt(i); return s.name == m[1] && s.pod == nil })
		return
	}
	if m := runStep.FindStringSubmatch(text); m != nil {
		l.kubectl(words(m[1])...)
		return
	}
	m := failStep.FindStringSubmatch(text)
	if m == nil {
		l.t.Fatalf("%s: unknown step", l.at)
	}
	if out, err := l.try(words(m[2])...); err == nil || !regexp.MustCompile(m[1]).MatchString(out) {
		l.t.Errorf("%s: %v\n%s", l.at, err, out)
	}
}

func (l *life) stateAt(i int) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[i]
}

func (l *life) pattern(text string) *regexp.Regexp {
	l.t.Helper()
	pattern, err := regexp.Compile("^(?:" + text + ")$")
	if err != nil {
		l.t.Fatalf("%s: %v", l.at, err)
	}
	return pattern
}

// matcher says whether a state of a pod is as wanted.
func (l *life) matcher(name, template, want string) func(state) bool {
	l.t.Helper()
	path := jsonpath.New(template).AllowMissingKeys(true)
	if err := path.Parse(template); err != nil {
		l.t.Fatalf("%s: %v", l.at, err)
	}
	pattern := l.pattern(want)
	return func(s state) bool {
		if s.name != name || s.pod == nil {
			return false
		}
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s.pod)
		if err != nil {
			return false
		}
		var out bytes.Buffer
		return path.Execute(&out, fields) == nil && pattern.MatchString(out.String())
	}
}

// words splits a line at spaces, but for what single quotes hold together.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		out = append(out, strings.Fields(part)...)
	}
	return out
}

func (l *life) try(args ...string) (string, error) {
	cmd := l.c.Command(append([]string{"kubectl", "--namespace", l.ns}, args...)...)
	cmd.Dir = l.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (l *life) kubectl(args ...string) {
	l.t.Helper()
	if out, err := l.try(args...); err != nil {
		l.t.Fatalf("%s: kubectl %s: %v\n%s", l.at, strings.Join(args, " "), err, out)
	}
}

// story is what has been seen, for a test that failed.
func (l *life) story() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out strings.Builder
	for i, s := range l.states {
		if s.pod == nil {
			fmt.Fprintf(&out, "%d %s is gone\n", i, s.name)
			continue
		}
		fmt.Fprintf(&out, "%d %s: %+v\n", i, s.name, s.pod.Status)
	}
	for i, e := range l.events {
		fmt.Fprintf(&out, "%d %s %s: %s\n", i, e.InvolvedObject.Name, e.Reason, e.Message)
	}
	return out.String()
}
