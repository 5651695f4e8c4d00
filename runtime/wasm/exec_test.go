package wasm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// servant starts a container that serves until its end, with a volume at /data.
func servant(t *testing.T) (c sandbox.Container, data string) {
	t.Helper()
	h := shared.harness
	image, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	data = t.TempDir()
	c, _ = h.Start(t, h.Pod(t, nil), sandbox.ContainerSpec{
		Image: image, Args: []string{"server", "--port=8080"}, WorkingDir: "/data",
		Env: []string{"POD_NAME=web-1", "GREETING=hello world"}, Ports: []sandbox.Port{{Number: 8080}},
		Mounts: []sandbox.Mount{{Source: data, Target: "/data"}},
	})
	return c, data
}

// run executes a program to its end and returns what it wrote.
func run(t *testing.T, c sandbox.Container, stdin string, args ...string) (string, int32) {
	t.Helper()
	out := &sandboxtest.Output{}
	code, err := sandbox.Run(t.Context(), c, sandbox.ExecSpec{Args: args, Stdin: strings.NewReader(stdin), Stdout: out, Stderr: out})
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return out.String(), code
}

func TestExecTools(t *testing.T) {
	c, data := servant(t)
	if err := os.WriteFile(filepath.Join(data, "fruit"), []byte("pear\napple\nfig\napple\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		args []string
		out  string
		code int32
	}{
		{[]string{"echo", "-n", "a", "b"}, "a b", 0},
		{[]string{"pwd"}, "/data\n", 0},
		{[]string{"/bin/cat", "fruit"}, "pear\napple\nfig\napple\n", 0},
		{[]string{"cat", "/none"}, "cat: /none: No such file or directory\n", 1},
		{[]string{"ls", "/"}, "data\n", 0},
		{[]string{"printenv", "GREETING"}, "hello world\n", 0},
		{[]string{"head", "-n", "1", "fruit"}, "pear\n", 0},
		{[]string{"tail", "-2", "fruit"}, "fig\napple\n", 0},
		{[]string{"tail", "-c+6", "fruit"}, "apple\nfig\napple\n", 0},
		{[]string{"grep", "-c", "ap*le", "fruit"}, "2\n", 0},
		{[]string{"grep", "-nE", "^(fig|pear)$", "fruit"}, "1:pear\n3:fig\n", 0},
		{[]string{"grep", "-vi", "A", "fruit"}, "fig\n", 0},
		{[]string{"grep", "kiwi", "fruit"}, "", 1},
		{[]string{"false"}, "", 1},
		{[]string{"test", "-f", "fruit"}, "", 0},
		{[]string{"test", "-d", "fruit"}, "", 1},
		{[]string{"id", "-u"}, "0\n", 0},
		{[]string{"wget", "-qO-", "http://127.0.0.1:8080/"}, "Hello from web-1, request 1\n", 0},
		{[]string{"wget", "-qO-", "https://127.0.0.1/"}, "wget: https://127.0.0.1/: not an address: only http:// is spoken here\n", 1},
		{[]string{"ps"}, "  PID USER     COMMAND\n    1 root     server --port=8080\n    2 root     ps\n", 0},
		{[]string{"sh", "-c", "exit 7"}, "", 7},
		{[]string{"sh", "-c", "sort fruit | uniq -c | grep -o x || echo $?"}, "grep: -o: unknown option\n2\n", 0},
		{[]string{"sh", "-c", "sort -u fruit | tr a-z A-Z | head -n2"}, "APPLE\nFIG\n", 0},
		{[]string{"cut", "-c1-2", "fruit"}, "pe\nap\nfi\nap\n", 0},
		{[]string{"wc", "-l", "fruit"}, "4 fruit\n", 0},
		{[]string{"basename", "/a/b.c", ".c"}, "b\n", 0},
		{[]string{"date", "-u", "+%Z %%"}, "UTC %\n", 0},
		{[]string{"env", "A=1", "sh", "-c", "echo $A"}, "1\n", 0},
	} {
		if out, code := run(t, c, "", e.args...); out != e.out || code != e.code {
			t.Errorf("%q: %q, code %d; want %q, code %d", e.args, out, code, e.out, e.code)
		}
	}
}

func TestExecShell(t *testing.T) {
	c, _ := servant(t)
	for _, e := range []struct {
		name, script, out string
		code              int32
	}{
		{"quotes", `x="a  b"; echo $x "$x" '$x' \$x a"b"'c'`, "a b a  b $x $x abc\n", 0},
		{"status", `false; echo $?; true; echo $?`, "1\n0\n", 0},
		{"and or", `true && echo yes || echo no; false && echo yes || echo no`, "yes\nno\n", 0},
		{"not", `! false && echo ok`, "ok\n", 0},
		{"redirect", `echo one >f; echo two >>f; cat <f; cat none 2>/dev/null; echo err >&2; ls none >all 2>&1; cat all`,
			"one\ntwo\nerr\nls: none: No such file or directory\n", 0},
		{"here", "x=5; cat <<EOF\n  x is $x $((x*2))\nEOF\ncat <<'EOF'\n$x\nEOF\necho done", "  x is 5 10\n$x\ndone\n", 0},
		{"if", `if test 1 -gt 2; then echo a; elif [ b = b ]; then echo b; else echo c; fi`, "b\n", 0},
		{"while", `i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done`, "1\n3\n", 0},
		{"for", "for f in a 'b c' d; do echo \"<$f>\"; [ \"$f\" = 'b c' ] && break; done", "<a>\n<b c>\n", 0},
		{"case", `for x in apple.txt b 7; do case $x in *.txt) echo text;; [0-9]|[a-b]) echo short;; esac; done`, "text\nshort\nshort\n", 0},
		{"function", `f() { echo "$# $1"; return 3; }; f a b; echo $?`, "2 a\n3\n", 0},
		{"substitution", "echo \"[$(printf 'a\\nb\\n')]\" `echo x`; x=$(false); echo $?", "[a\nb] x\n1\n", 0},
		{"subshell", `x=1; (x=2; cd /; pwd; exit 4); echo $x $? $(pwd)`, "/\n1 4 /data\n", 0},
		{"parameters", `unset u; echo ${u:-d} ${GREETING#* } ${GREETING%% *} ${#GREETING} ${u+x}.`, "d world hello 11 .\n", 0},
		{"glob", `rm -f *; touch b1 a1 c; echo *1 'x*' z*`, "a1 b1 x* z*\n", 0},
		{"read", `printf '1 2 3\n4\n' | while read a b; do echo "$a-$b"; done`, "1-2 3\n4-\n", 0},
		{"exported", `A=1 B=2; export B; env | grep -c '^[AB]='; C=3 printenv C; echo $C`, "1\n3\n\n", 0},
		{"errexit", `set -e; if false; then :; fi; false || true; false; echo not reached`, "", 1},
		{"exit in pipe", `echo a | (cat; exit 5); echo $?`, "a\n5\n", 0},
		{"unknown", `frobnicate`, "sh: frobnicate: not found\n", 127},
		{"syntax", `if true; then echo`, "sh: syntax error: the script ends too early\n", 2},
		{"syntax too", `echo a )`, "sh: syntax error: )\n", 2},
		{"arithmetic", `echo $(( (2+3)*4 - 7/2 )) $((1<2 && 3!=3))`, "17 0\n", 0},
		{"arguments", `set -- a 'b c'; for x in "$@"; do echo "$x"; done; shift; echo $# "$*"`, "a\nb c\n1 b c\n", 0},
	} {
		if out, code := run(t, c, "", "sh", "-c", e.script); out != e.out || code != e.code {
			t.Errorf("%s: %q, code %d; want %q, code %d", e.name, out, code, e.out, e.code)
		}
	}
	if out, code := run(t, c, "read a\nline two\necho \"got $a\"\nexit 3\n", "sh"); out != "got line two\n" || code != 3 {
		t.Errorf("a script from standard input: %q, code %d", out, code)
	}
}

// TestExecTar carries files through an archive, as kubectl cp does.
func TestExecTar(t *testing.T) {
	c, data := servant(t)
	deep := filepath.Join(data, "from", strings.Repeat("long/", 30), "file")
	if err := os.MkdirAll(filepath.Dir(deep), 0o755); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 20_000)
	for path, mode := range map[string]os.FileMode{deep: 0o640, filepath.Join(data, "from", "run"): 0o755} {
		if err := os.WriteFile(path, []byte(big), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("run", filepath.Join(data, "from", "link")); err != nil {
		t.Fatal(err)
	}
	out, code := run(t, c, "", "tar", "cf", "-", "/data/from")
	if code != 0 || len(out)%512 != 0 {
		t.Fatalf("tar: code %d, %d bytes", code, len(out))
	}
	if text, code := run(t, c, out, "tar", "--no-same-owner", "-xmf", "-", "-C", "/data/to"); code == 0 {
		t.Errorf("extracted into a directory that is not there: %q", text)
	}
	if text, code := run(t, c, out, "sh", "-c", "mkdir to && tar -xmf - -C to && pwd"); code != 0 || text != "/data\n" {
		t.Fatalf("extract: %q, code %d", text, code)
	}
	copied := filepath.Join(data, "to", strings.TrimPrefix(deep, data)[1:])
	copied = strings.Replace(copied, filepath.Join("to", "from"), filepath.Join("to", "data", "from"), 1)
	for path, mode := range map[string]os.FileMode{copied: 0o640, filepath.Join(data, "to/data/from/run"): 0o755} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != mode || info.Size() != int64(len(big)) {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(data, "to/data/from/link")); target != "run" {
		t.Errorf("link: %q, %v", target, err)
	}
	if text, code := run(t, c, out[:1024], "tar", "tf", "-"); code == 0 && !strings.HasPrefix(text, "data/from/\n") {
		t.Errorf("list of a cut archive: %q, code %d", text, code)
	}
	if _, code := run(t, c, "nonsense"+strings.Repeat("x", 600), "tar", "xf", "-"); code == 0 {
		t.Error("nonsense was extracted")
	}
}

func TestExecPrograms(t *testing.T) {
	c, data := servant(t)
	tool, err := os.ReadFile(shared.harness.Guests.Tool(t).Module)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"mine.wasm": string(tool), "script": "#!/bin/sh\necho \"script $1\"\n", "text": "no program", "old": "#!/usr/bin/python\n",
	} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := run(t, c, "", "/data/mine.wasm", "say:from a module", "exit:9"); out != "from a module\n" || code != 9 {
		t.Errorf("%q, code %d", out, code)
	}
	if out, _ := run(t, c, "", "./script", "it"); out != "script it\n" {
		t.Errorf("script: %q", out)
	}
	for _, e := range []struct {
		name, text string
		code       int32
	}{
		{"nowhere", "executable file not found in $PATH", 127},
		{"/bin/nowhere", "no such file or directory", 127},
		{"./text", "not a WebAssembly module", 126},
		{"/data", "it is a directory", 126},
		{"./old", "interpreter", 126},
		{"", "no command given", 127},
	} {
		_, err := sandbox.Run(t.Context(), c, sandbox.ExecSpec{Args: []string{e.name}})
		var refused *sandbox.ExecError
		if !errors.As(err, &refused) || refused.Code != e.code || !strings.Contains(err.Error(), e.text) {
			t.Errorf("%q: %v", e.name, err)
		}
	}
}

// TestExecEnds: an exec ends with its client and with its container.
func TestExecEnds(t *testing.T) {
	c, _ := servant(t)
	start := func(ctx context.Context, args ...string) (*sandboxtest.Output, chan int32) {
		out, ended := &sandboxtest.Output{}, make(chan int32, 1)
		go func() {
			code, _ := sandbox.Run(ctx, c, sandbox.ExecSpec{Args: args, Stdout: out, Stderr: out})
			ended <- code
		}()
		out.Await(t, "ready")
		return out, ended
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, ended := start(ctx, "sh", "-c", "echo ready; while true; do :; done")
	cancel()
	if code := <-ended; code != exitTold {
		t.Errorf("the client went away: code %d", code)
	}
	_, ended = start(t.Context(), "sh", "-c", "echo ready; sleep 100000")
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitKilled {
		t.Errorf("the container ended: code %d", code)
	}
	if _, err := sandbox.Run(t.Context(), c, sandbox.ExecSpec{Args: []string{"true"}}); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}
