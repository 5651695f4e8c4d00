package app_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unstructured "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/jsonpath"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// TestLifecycle runs the cases of testdata/lifecycle, all at once on one node.
// A case is a txtar archive: a comment that says what is promised, manifests
// (those called .later are for its commands), and a file "expect" with steps that must come true in this order:
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
	t.Parallel()
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
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, file := range files {
		group.Go(func() {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runCase(t, c, file, turns) })
		})
	}
	group.Wait()
}

func runCase(t *testing.T, c *clustertest.Cluster, file string, turns chan struct{}) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t: t, c: c, ns: strings.TrimSuffix(filepath.Base(file), ".txt"), dir: t.TempDir(), turns: turns}
	_, err = c.Client.Create(t.Context(), api.Namespaces.Key("", l.ns), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.ns}}, api.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.follow()()
	defer func() {
		if t.Failed() {
			t.Logf("%s\n%s", l.story(), l.why)
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
		if strings.HasSuffix(f.Name, ".later") {
			continue
		}
		l.at = f.Name
		l.kubectl("apply", "-f", f.Name)
	}
	for number, step := range strings.Split(string(steps), "\n") {
		if step = strings.TrimSpace(step); step != "" && !strings.HasPrefix(step, "#") {
			l.at = fmt.Sprintf("step %d, %q", number+1, step)
			l.step(step)
		}
	}
}

// life is one case under way.
type life struct {
	t   *testing.T
	c   *clustertest.Cluster
	ns  string
	dir string
	// turns has a place for each kubectl that may run now: one takes much of
	// what a small machine has.
	turns chan struct{}
	at    string // the current step, for messages
	why   string // the test fails; said last, below the story

	mu     sync.Mutex
	news   chan struct{} // closed at the next one
	states []state
	events []*corev1.Event
	broken error // what has ended a watch
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
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					l.lose(fmt.Errorf("watch of %s: %w", r.Name, err))
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
	l.tell()
}

// lose notes that a watch has ended: nothing can come true any more.
func (l *life) lose(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	l.tell()
}

// tell wakes who waits for news; l.mu is held.
func (l *life) tell() {
	close(l.news)
	l.news = make(chan struct{})
}

// fail ends the case. What it says comes after the story, where it is found.
func (l *life) fail(format string, args ...any) {
	l.why = l.at + ": " + fmt.Sprintf(format, args...)
	l.t.FailNow()
}

// until waits for the first thing from *next on that is as wanted, and sets
// *next behind it.
func (l *life) until(next *int, count func() int, wanted func(i int) bool) {
	patience := time.NewTimer(clustertest.Patience)
	defer patience.Stop()
	for i := *next; ; {
		l.mu.Lock()
		n, news, broken := count(), l.news, l.broken
		l.mu.Unlock()
		for ; i < n; i++ {
			if wanted(i) {
				*next = i
				return
			}
		}
		if broken != nil {
			l.fail("%v", broken)
		}
		select {
		case <-news:
		case <-patience.C:
			l.fail("did not come true in %v, looking from state %d and event %d on", clustertest.Patience, l.nextState, l.nextEvent)
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
	if m := stateStep.FindStringSubmatch(text); m != nil {
		is := l.matcher(m[2], m[3], m[4])
		if m[1] == "never" {
			l.mu.Lock()
			defer l.mu.Unlock()
			if i := slices.IndexFunc(l.states[l.nextState:], is); i >= 0 {
				l.fail("it was, in state %d", l.nextState+i)
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
		l.fail("unknown step")
	}
	if out, err := l.try(words(m[2])...); err == nil || !regexp.MustCompile(m[1]).MatchString(out) {
		l.fail("%v\n%s", err, out)
	}
}

func (l *life) stateAt(i int) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[i]
}

func (l *life) pattern(text string) *regexp.Regexp {
	pattern, err := regexp.Compile("^(?:" + text + ")$")
	if err != nil {
		l.fail("%v", err)
	}
	return pattern
}

// matcher says whether a state of a pod is as wanted.
func (l *life) matcher(name, template, want string) func(state) bool {
	path := jsonpath.New(template).AllowMissingKeys(true)
	if err := path.Parse(template); err != nil {
		l.fail("%v", err)
	}
	pattern := l.pattern(want)
	return func(s state) bool {
		if s.name != name || s.pod == nil {
			return false
		}
		fields, err := unstructured.DefaultUnstructuredConverter.ToUnstructured(s.pod)
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
	l.turns <- struct{}{}
	defer func() { <-l.turns }()
	cmd := l.c.Command(append([]string{"kubectl", "--namespace", l.ns}, args...)...)
	cmd.Dir = l.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (l *life) kubectl(args ...string) {
	if out, err := l.try(args...); err != nil {
		l.fail("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// story is what has been seen, a line each, for a test that failed.
func (l *life) story() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out strings.Builder
	for i, s := range l.states {
		fmt.Fprintf(&out, "state %d %s: %s\n", i, s.name, brief(s.pod))
	}
	for i, e := range l.events {
		fmt.Fprintf(&out, "event %d %s %s (%d): %s\n", i, e.InvolvedObject.Name, e.Reason, e.Count, e.Message)
	}
	return out.String()
}

// brief is a pod's status in a line.
func brief(pod *corev1.Pod) string {
	if pod == nil {
		return "gone"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "revision %s %s %s", pod.ResourceVersion, pod.Status.Phase, pod.Status.Reason)
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			fmt.Fprintf(&out, " !%s", c.Type)
		}
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		fmt.Fprintf(&out, "; %s", c.Name)
		switch s := c.State; {
		case s.Running != nil:
			fmt.Fprintf(&out, " runs since %s", s.Running.StartedAt.Format(time.TimeOnly))
		case s.Terminated != nil:
			fmt.Fprintf(&out, " %s %d at %s", s.Terminated.Reason, s.Terminated.ExitCode, s.Terminated.FinishedAt.Format(time.TimeOnly))
		case s.Waiting != nil:
			fmt.Fprintf(&out, " %s", s.Waiting.Reason)
		}
		fmt.Fprintf(&out, " restarts %d ready %v", c.RestartCount, c.Ready)
	}
	return out.String()
}
