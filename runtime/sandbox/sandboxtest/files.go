package sandboxtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func testFiles(t *testing.T, h *Harness) {
	data, settings := t.TempDir(), t.TempDir()
	// A configMap as kubelet's atomic writer leaves it.
	write(t, filepath.Join(settings, "..2026_01", "key"), "value")
	link(t, "..2026_01", filepath.Join(settings, "..data"))
	link(t, "..data/key", filepath.Join(settings, "key"))
	single := filepath.Join(t.TempDir(), "single.txt")
	write(t, single, "alone")
	spec := sandbox.ContainerSpec{Mounts: []sandbox.Mount{
		{Source: data, Target: "/data"},
		{Source: settings, Target: "/etc/app/config", ReadOnly: true},
		{Source: single, Target: "/etc/app/single.txt", ReadOnly: true},
	}}
	for _, c := range []struct {
		name  string
		verbs []string
		want  string
	}{
		{"write and read", []string{"write:/data/a,text", "cat:/data/a"}, "text"},
		{"append", []string{"write:/data/b,1", "append:/data/b,2", "append:/data/b,3", "cat:/data/b"}, "123"},
		{"list", []string{"mkdir:/data/d/e", "write:/data/d/f,x", "ls:/data/d"}, "e true\nf false\n"},
		{"stat", []string{"write:/data/s,12345", "touch:/data/s", "stat:/data/s"}, "s 5 false 1000000000\n"},
		{"rename", []string{"write:/data/r,x", "mv:/data/r,/data/q", "cat:/data/r", "cat:/data/q"}, "cat:/data/r: error: open /data/r: No such file or directory\nx"},
		{"truncate", []string{"write:/data/t,123456", "truncate:/data/t,3", "cat:/data/t"}, "123"},
		{"seek", []string{"seek:/data/seek"}, "world 11\n"},
		{"links", []string{"write:/data/l,x", "ln:/data/sym,l", "readlink:/data/sym", "cat:/data/sym", "hardlink:/data/hard,/data/l", "cat:/data/hard"}, "l\nxx"},
		{"remove", []string{"mkdir:/data/gone/deep", "rm:/data/gone", "rm:/data/gone/deep", "rm:/data/gone", "ls:/data/gone"},
			"rm:/data/gone: error: remove /data/gone: Directory not empty\nls:/data/gone: error: open /data/gone: No such file or directory\n"},
		{"configMap", []string{"cat:/etc/app/config/key"}, "value"},
		{"single file", []string{"cat:/etc/app/single.txt", "ls:/etc/app"}, "aloneconfig true\nsingle.txt false\n"},
		{"read-only", []string{"write:/etc/app/config/key,x", "mkdir:/etc/app/config/d", "rm:/etc/app/single.txt"},
			"write:/etc/app/config/key,x: error: open /etc/app/config/key: Read-only file system\n" +
				"mkdir:/etc/app/config/d: error: mkdir /etc/app/config/d: Read-only file system\n" +
				"rm:/etc/app/single.txt: error: remove /etc/app/single.txt: Read-only file system\n"},
		{"root", []string{"ls:/", "ls:/etc", "cat:/etc/passwd", "write:/x,y"},
			"data true\netc true\napp true\ncat:/etc/passwd: error: open /etc/passwd: No such file or directory\n" +
				"write:/x,y: error: open /x: Read-only file system\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			exit, out := h.Tool(t, spec, c.verbs...)
			if out != c.want {
				t.Errorf("exit %+v\n got %q\nwant %q", exit, out, c.want)
			}
		})
	}
	if got := read(filepath.Join(data, "a")); got != "text" {
		t.Errorf("the host reads %q", got)
	}
	t.Run("missing source", func(t *testing.T) {
		_, err := h.Pod(t, nil).Start(t.Context(), sandbox.ContainerSpec{
			Name: "x", Image: h.Guests.Tool(t), Mounts: []sandbox.Mount{{Source: filepath.Join(data, "none"), Target: "/m"}},
		})
		if err == nil || !strings.Contains(err.Error(), "/m") {
			t.Errorf("error %v", err)
		}
	})
}

// testLater: a mount whose source is not there yet is made when a guest looks
// at it, not before, and every guest of the container sees the same one.
func testLater(t *testing.T, h *Harness) {
	base := t.TempDir()
	dir, single := filepath.Join(base, "dir"), filepath.Join(base, "single")
	var made []string
	var failure error
	makes := func(path string, file bool) *sandbox.Later {
		return &sandbox.Later{File: file, Make: func() error {
			made = append(made, filepath.Base(path))
			if failure != nil {
				return failure
			}
			if !file {
				return os.MkdirAll(path, 0o755)
			}
			f, err := os.OpenFile(path, os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			return f.Close()
		}}
	}
	spec := sandbox.ContainerSpec{Mounts: []sandbox.Mount{
		{Source: dir, Target: "/late/dir", Later: makes(dir, false)},
		{Source: single, Target: "/dev/last", MaxBytes: 8 << 10, Later: makes(single, true)},
	}}
	for _, c := range []struct {
		name    string
		failure error
		verbs   []string
		want    string
		made    string
	}{
		{"nobody looks", nil, []string{"ls:/"}, "dev true\nlate true\n", ""},
		{"it cannot be made", fs.ErrPermission, []string{"ls:/late/dir"}, "ls:/late/dir: error: open /late/dir: Permission denied\n", "dir"},
		{"a guest looks", nil, []string{"write:/late/dir/a,text", "cat:/late/dir/a"}, "text", "dir"},
		{"another one", nil, []string{"cat:/late/dir/a"}, "text", "dir"},
		{"a file", nil, []string{"write:/dev/last,words", "cat:/dev/last", "cat:/dev/other"},
			"wordscat:/dev/other: error: open /dev/other: No such file or directory\n", "single"},
	} {
		t.Run(c.name, func(t *testing.T) {
			made, failure = nil, c.failure
			exit, out := h.Tool(t, spec, c.verbs...)
			if out != c.want {
				t.Errorf("exit %+v\n got %q\nwant %q", exit, out, c.want)
			}
			if got := slices.Compact(made); strings.Join(got, " ") != c.made {
				t.Errorf("made %q, want %q", got, c.made)
			}
		})
	}
	if got := read(filepath.Join(dir, "a")) + read(single); got != "textwords" {
		t.Errorf("the host reads %q", got)
	}
}

// testQuota: a volume with bounds is full when guests have filled it, for all
// of them, and for those that start later.
func testQuota(t *testing.T, h *Harness) {
	data := t.TempDir()
	spec := sandbox.ContainerSpec{Mounts: []sandbox.Mount{{Source: data, Target: "/data", MaxBytes: 64 << 10, MaxFiles: 4}}}
	const full = "No space left on device\n"
	for _, c := range []struct {
		name  string
		verbs []string
		want  string
	}{
		{"it fits", []string{"write:/data/a,text", "truncate:/data/a,40000", "mkdir:/data/d"}, ""},
		{"too large", []string{"truncate:/data/a,70000"}, "truncate:/data/a,70000: error: truncate /data/a: " + full},
		{"too large together", []string{"write:/data/d/b,x", "truncate:/data/d/b,20481"}, "truncate:/data/d/b,20481: error: truncate /data/d/b: " + full},
		{"too many", []string{"write:/data/c,x", "write:/data/e,x"}, "write:/data/e,x: error: open /data/e: " + full},
		{"after a removal", []string{"rm:/data/c", "rm:/data/d/b", "rm:/data/d", "truncate:/data/a,65536", "cat:/data/none"},
			"cat:/data/none: error: open /data/none: No such file or directory\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if exit, out := h.Tool(t, spec, c.verbs...); out != c.want {
				t.Errorf("exit %+v\n got %q\nwant %q", exit, out, c.want)
			}
		})
	}
	if info, err := os.Stat(filepath.Join(data, "a")); err != nil || info.Size() != 64<<10 {
		t.Errorf("the host sees %v, %v", info, err)
	}
}

// testEscape tries to leave a mount in every way that is known.
func testEscape(t *testing.T, h *Harness) {
	outer := t.TempDir()
	write(t, filepath.Join(outer, "secret"), "SECRET")
	inner := filepath.Join(outer, "mount")
	write(t, filepath.Join(inner, "dir", "inside"), "inside")
	link(t, "../secret", filepath.Join(inner, "relative"))
	link(t, filepath.Join(outer, "secret"), filepath.Join(inner, "absolute"))
	link(t, "..", filepath.Join(inner, "up"))
	link(t, "/", filepath.Join(inner, "root"))
	link(t, "../../secret", filepath.Join(inner, "dir", "deep"))
	for _, readOnly := range []bool{false, true} {
		spec := sandbox.ContainerSpec{Mounts: []sandbox.Mount{{Source: inner, Target: "/m", ReadOnly: readOnly}}}
		_, out := h.Tool(t, spec,
			"cat:/m/relative", "cat:/m/absolute", "cat:/m/up/secret", "cat:/m/../secret", "cat:/m/dir/deep",
			"cat:/m/root"+filepath.ToSlash(outer)+"/secret", "readlink:/m/absolute",
			"ln:/m/mine,../secret", "cat:/m/mine", "ln:/m/mineup,..", "cat:/m/mineup/secret",
			"ln:/m/abs,"+filepath.ToSlash(outer), "cat:/m/abs/secret", "mkdir:/m/x", "mv:/m/x,/m/up/moved",
			"write:/m/up/written,x", "write:/m/relative,overwritten", "append:/m/relative,more", "touch:/m/relative",
			"truncate:/m/relative,0", "rm:/m/up/secret", "hardlink:/m/hard,/m/relative", "cat:/m/hard",
			"hardlink:/m/up/hard,/m/dir/inside", "mkdir:/m/up/made", "ls:/m/up", "walk:/m/root",
			"cat:/m/dir/inside")
		if strings.Contains(out, "SECRET") || strings.Contains(out, outer) && strings.Contains(out, "readlink:/m/absolute\n"+outer) {
			t.Errorf("the guest has seen the outside: %s", out)
		}
		if !strings.HasSuffix(out, "inside") {
			t.Errorf("the guest does not see the inside: %s", out)
		}
	}
	if got := read(filepath.Join(outer, "secret")); got != "SECRET" {
		t.Errorf("the guest has changed the outside: %q", got)
	}
	entries, err := os.ReadDir(outer)
	if err != nil || len(entries) != 2 {
		t.Errorf("the guest has left something outside: %v, %v", entries, err)
	}
}
