package wasi

import (
	"os"
	"path/filepath"
	"testing"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, g *Guest, fd int, name string) (string, Errno) {
	t.Helper()
	opened, errno := g.table.open[fd].(*dir).open(g, name, openRequest{rights: rightRead, follow: true})
	if errno != OK {
		return "", errno
	}
	defer opened.close()
	b := make([]byte, 64)
	n, errno := opened.(*file).read(g, [][]byte{b})
	return string(b[:n]), errno
}

func TestSubPaths(t *testing.T) {
	volume := t.TempDir()
	put(t, filepath.Join(volume, "a", "b", "f"), "inner")
	g, _ := testGuest(t, Config{Mounts: []Mount{
		{Source: volume, SubPath: "a/b", Target: "/dir"},
		{Source: volume, SubPath: "a/b/f", Target: "/etc/f"},
	}})
	for fd, name := range map[int]string{3: "f", 4: "f"} {
		if text, errno := get(t, g, fd, name); text != "inner" {
			t.Errorf("descriptor %d: %q, errno %d", fd, text, errno)
		}
	}
}

// TestSubPathThatBecomesALink is what another container of the pod can do
// between the check of a subPath and its use.
func TestSubPathThatBecomesALink(t *testing.T) {
	outside, volume := t.TempDir(), t.TempDir()
	put(t, filepath.Join(outside, "f"), "secret")
	put(t, filepath.Join(volume, "sub", "f"), "inner")
	put(t, filepath.Join(volume, "file"), "inner")
	g, _ := testGuest(t, Config{Mounts: []Mount{
		{Source: volume, SubPath: "sub", Target: "/dir"},
		{Source: volume, SubPath: "file", Target: "/etc/f"},
	}})
	for name, target := range map[string]string{"sub": outside, "file": filepath.Join(outside, "f")} {
		at := filepath.Join(volume, name)
		if err := os.RemoveAll(at); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
	}
	for fd := 3; fd <= 4; fd++ {
		if text, errno := get(t, g, fd, "f"); errno != EPERM {
			t.Errorf("descriptor %d: %q, errno %d", fd, text, errno)
		}
	}
}

// TestMountedFileBehindALink is a hostPath such as /etc/localtime.
func TestMountedFileBehindALink(t *testing.T) {
	elsewhere, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(elsewhere, "zone"), "UTC")
	if err := os.Symlink(filepath.Join(elsewhere, "zone"), filepath.Join(dir, "localtime")); err != nil {
		t.Fatal(err)
	}
	g, _ := testGuest(t, Config{Mounts: []Mount{{Source: filepath.Join(dir, "localtime"), Target: "/etc/localtime"}}})
	if text, errno := get(t, g, 3, "localtime"); text != "UTC" {
		t.Errorf("%q, errno %d", text, errno)
	}
}

// TestDevices: of a host's devices a guest may open those that every container
// has.
func TestDevices(t *testing.T) {
	if _, err := os.Stat("/dev/tty"); err != nil {
		t.Skip("there are no devices here")
	}
	r := newRaw(t, hostDoor, Config{Mounts: []Mount{{Source: "/dev", Target: "/dev", ReadOnly: true}}})
	for name, want := range map[string]Errno{"null": OK, "zero": OK, "tty": EACCES} {
		if _, errno := r.open(3, name, 0, rightRead, 0); errno != want {
			t.Errorf("%s: errno %d, not %d", name, errno, want)
		}
	}
}
