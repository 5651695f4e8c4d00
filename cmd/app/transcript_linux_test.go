package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// TestTranscripts holds what kubectl shows of pods to the transcripts of
// testdata/transcripts, with the kubectl that is built in and with the one of
// this machine, which is another version. A transcript is a txtar archive: the
// files are there for its commands, and its comment is
//
//	$ COMMAND        what it printed follows
//	% COMMAND        the same in a terminal, and after it
//	< LINE           is typed at the shell's next prompt
//	< COLUMNSxROWS   is the terminal's size from then on
//	& COMMAND        runs till the end of the transcript; it forwards a port
//	@ PATH           what an HTTP server at the forwarded port answers
//	~ REGEXP $ CMD   repeats a command until it prints that; not recorded
//
// What differs from run to run (addresses, ages, digests) is written as what it
// is, and events of one object, which come from several sides, are sorted. What
// another version of kubectl words in another way is in a directory of that
// version. WHERRY_UPDATE=1 writes the transcripts anew.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	c.Push("said:v1", printerModule("one\ntwo\nthree\n", 0))
	c.Push("spin:v1", spinModule)
	c.Apply(transcriptImages) // nobody pulls later on
	c.Kubectl("wait", "--for=jsonpath={.status.containerStatuses[1].containerID}", "pod/images", "--timeout=180s")
	c.Kubectl("wait", "--for=jsonpath={.status.containerStatuses[2].containerID}", "pod/images", "--timeout=180s")
	for who, bin := range map[string]string{"builtin": builtinKubectl(t), "installed": installedKubectl(t)} {
		if bin == "" || who != "builtin" && clustertest.Race { // the server is the same for both
			continue
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".txt")
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := &transcript{t: t, c: c, dir: t.TempDir(), bin: bin, namespace: who + "-" + name}
				s.check(file, who == "builtin")
			})
		}
	}
}

const transcriptImages = `
apiVersion: v1
kind: Pod
metadata: {name: images}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers:
  - {name: hello, image: "hello:v1", ports: [{containerPort: 8080}]}
  - {name: said, image: "said:v1"}
  - {name: spin, image: "spin:v1", resources: {limits: {cpu: 5m}}}
`

// transcript is one that is being played.
type transcript struct {
	t                   *testing.T
	c                   *clustertest.Cluster
	dir, bin, namespace string
	port                string // that is forwarded
	out                 strings.Builder
}

func (s *transcript) check(file string, builtin bool) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	want := string(archive.Comment)
	if !builtin {
		dir := filepath.Join(filepath.Dir(file), s.version())
		if _, err := os.Stat(dir); err != nil {
			s.t.Skipf("there are no transcripts of kubectl %s", s.version())
		}
		if own, err := os.ReadFile(filepath.Join(dir, filepath.Base(file))); err == nil {
			want = string(own)
		}
		defer func() {
			if os.Getenv("WHERRY_UPDATE") != "" && s.t.Failed() {
				writeFile(s.t, filepath.Join(dir, filepath.Base(file)), []byte(s.normal(s.out.String())))
			}
		}()
	}
	for _, f := range archive.Files {
		writeFile(s.t, filepath.Join(s.dir, f.Name), f.Data)
	}
	if err := newNamespace(s.t, s.c, s.namespace, filepath.Join(s.dir, ".kubeconfig")); err != nil {
		s.t.Fatal(err)
	}
	lines := strings.Split(string(archive.Comment), "\n")
	for i, line := range lines {
		if len(line) < 2 || line[1] != ' ' {
			continue
		}
		var typed []string
		for _, next := range lines[i+1:] {
			if !strings.HasPrefix(next, "< ") {
				break
			}
			typed = append(typed, next[2:])
		}
		s.step(line[0], line[2:], typed)
	}
	got := s.normal(s.out.String())
	if builtin && os.Getenv("WHERRY_UPDATE") != "" {
		archive.Comment = []byte(got)
		writeFile(s.t, file, txtar.Format(archive))
		return
	}
	if got != want {
		s.t.Errorf("the transcript is now:\n%s\n%s", got, firstDifference(want, got))
	}
}

// version is that of kubectl: "v1.32".
func (s *transcript) version() string {
	out, err := s.command("kubectl version --client -o json").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var client struct{ ClientVersion struct{ Major, Minor string } }
	if err := json.Unmarshal(out, &client); err != nil {
		s.t.Fatal(err)
	}
	return "v" + client.ClientVersion.Major + "." + strings.TrimSuffix(client.ClientVersion.Minor, "+") // builds of vendors have it
}

func (s *transcript) step(kind byte, text string, typed []string) {
	if kind == '#' || kind != '<' && strings.IndexByte("$%&@~", kind) >= 0 {
		fmt.Fprintf(&s.out, "%c %s\n", kind, text)
	}
	switch kind {
	case '$':
		out, err := s.command(text).CombinedOutput()
		s.out.Write(out)
		if len(out) > 0 && out[len(out)-1] != '\n' {
			s.out.WriteByte('\n')
		}
		if err != nil {
			fmt.Fprintf(&s.out, "[%v]\n", err)
		}
	case '%':
		s.terminal(text, typed)
	case '&':
		s.background(text)
	case '@':
		s.get(text)
	case '~':
		s.await(text)
	}
}

func (s *transcript) command(text string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), "sh", "-c", text)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(s.dir, ".kubeconfig"), "HOME="+s.dir,
		"PATH="+s.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return cmd
}

var windowSize = regexp.MustCompile(`^(\d+)x(\d+)$`)

// terminal sits at a shell in a container.
func (s *transcript) terminal(text string, typed []string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), clustertest.Patience)
	defer cancel()
	cmd := s.command("exec " + text)
	p := startInTerminal(s.t, cmd)
	seen := ""
	for _, line := range typed {
		fmt.Fprintf(&s.out, "< %s\n", line)
		if m := windowSize.FindStringSubmatch(line); m != nil {
			var columns, rows uint16
			_, _ = fmt.Sscan(m[1], &columns) // the pattern has numbers only
			_, _ = fmt.Sscan(m[2], &rows)
			p.shown.past(ctx, s.t, seen, "/ # ") // what was typed before has the old size
			p.resize(s.t, columns, rows)
			continue
		}
		seen = p.shown.past(ctx, s.t, seen, "/ # ")
		p.enter(s.t, line)
	}
	err := cmd.Wait()
	<-p.drawn
	s.out.WriteString(strings.ReplaceAll(p.shown.all(), "\r\n", "\n"))
	if err != nil {
		fmt.Fprintf(&s.out, "[%v]\n", err)
	}
}

// past waits for text behind what was seen, and returns all up to its end.
func (s *screen) past(ctx context.Context, t *testing.T, seen, text string) string {
	t.Helper()
	defer context.AfterFunc(ctx, s.cond.Broadcast)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		shown := s.text.String()
		if i := strings.Index(shown[len(seen):], text); i >= 0 {
			return shown[:len(seen)+i+len(text)]
		}
		if ctx.Err() != nil {
			t.Fatalf("the screen has no further %q: %q", text, shown)
		}
		s.cond.Wait()
	}
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// background starts what forwards a port of its choice.
func (s *transcript) background(text string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), clustertest.Patience)
	defer cancel()
	cmd := s.command("exec " + text)
	shown := newScreen()
	cmd.Stdout, cmd.Stderr = shown, shown
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	shown.await(ctx, s.t, " -> ")
	all := shown.past(ctx, s.t, "", "\n")
	fmt.Fprint(&s.out, all)
	if m := forwarding.FindStringSubmatch(all); m != nil {
		s.port = m[1]
	}
}

func (s *transcript) get(path string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://127.0.0.1:" + s.port + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(&s.out, "%s\n%s", response.Status, body)
}

// await repeats a command until it prints what the text wants.
func (s *transcript) await(text string) {
	pattern, command, _ := strings.Cut(text, " $ ")
	wanted, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []byte
	for deadline := time.Now().Add(clustertest.Patience); time.Now().Before(deadline); {
		out, _ = s.command(command).CombinedOutput() // a failure may be what is waited for
		if wanted.Match(out) {
			return
		}
	}
	s.t.Fatalf("%s: never, but %s", text, out)
}

// varies are the parts of an output that are another each time.
var varies = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`127\.(?:[1-9]\d*\.\d+|0\.[1-9]\d*)\.\d+`), "IP"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:DIGEST"},
	{regexp.MustCompile(`wasm://[0-9a-f]{64}`), "wasm://ID"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}\b`), "kube-api-access-NAME"},
	{regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`), "DATE"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`(?m) +$`), ""},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "}, // columns are as wide as their contents
	{regexp.MustCompile(`(?m)  \d+m  \d+%  \d+Mi  \d+%$`), "  CPU  SHARE  MEMORY  SHARE"},
	{regexp.MustCompile(`(?m)  \d+m  \d+(Ki|Mi)$`), "  CPU  MEMORY"},
	{regexp.MustCompile(`(?m)([^:])  (?:<invalid>|(?:\d+[hms])+)(  |$)`), "$1  AGE$2"},
	{regexp.MustCompile(`started in \d.*`), "started in TIME"},
	{regexp.MustCompile(`request \d+`), "request N"},
}

func (s *transcript) normal(text string) string {
	text = strings.ReplaceAll(text, s.namespace, "NAMESPACE")
	if s.port != "" {
		text = strings.ReplaceAll(text, "127.0.0.1:"+s.port, "127.0.0.1:PORT")
	}
	for _, v := range varies {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return eventLines.ReplaceAllStringFunc(text, func(events string) string {
		lines := strings.SplitAfter(events, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "")
	})
}

// eventLines are the events that "kubectl describe" shows of an object.
var eventLines = regexp.MustCompile(`(?m)(?:^  (?:Normal|Warning)  .*\n)+`)

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range a {
		if i >= len(b) {
			return fmt.Sprintf("line %d is missing: %q", i+1, a[i])
		}
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is %q, not %q", i+1, b[i], a[i])
		}
	}
	return fmt.Sprintf("more lines than the %d that there should be", len(a))
}
