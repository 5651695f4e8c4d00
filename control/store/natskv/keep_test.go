package natskv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// keptFiles is a directory of blocks and one of links.
type keptFiles struct {
	t         *testing.T
	msgs, dir string
}

func newKeptFiles(t *testing.T) *keptFiles {
	k := &keptFiles{t: t, msgs: filepath.Join(t.TempDir(), "msgs"), dir: filepath.Join(t.TempDir(), "keep", "stream")}
	if err := os.Mkdir(k.msgs, 0o700); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keptFiles) write(name, content string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.msgs, name), []byte(content), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// replace does what the server does when it compacts.
func (k *keptFiles) replace(name, content string) {
	k.t.Helper()
	k.write("new", content)
	if err := os.Rename(filepath.Join(k.msgs, "new"), filepath.Join(k.msgs, name)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keptFiles) remove(name string) {
	k.t.Helper()
	if err := os.Remove(filepath.Join(k.msgs, name)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keptFiles) blocks() *blocks {
	k.t.Helper()
	keep, err := openKeeper(k.dir, k.msgs, testLog(k.t))
	if err != nil {
		k.t.Fatal(err)
	}
	if keep == nil {
		k.t.Skip("this file system has no hard links")
	}
	return &blocks{dir: k.msgs, keep: keep}
}

func (k *keptFiles) sync(b *blocks) {
	k.t.Helper()
	b.newest = "" // changes follow faster here than times tell
	if err := b.sync(); err != nil {
		k.t.Fatal(err)
	}
}

// state is all that the server would find.
func (k *keptFiles) state() string {
	k.t.Helper()
	entries, err := os.ReadDir(k.msgs)
	if err != nil {
		k.t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(k.msgs, entry.Name()))
		if err != nil {
			k.t.Fatal(err)
		}
		all = append(all, entry.Name()+"="+string(content))
	}
	return strings.Join(all, " ")
}

// TestRestore: what was synced comes back, all of it or nothing.
func TestRestore(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(k *keptFiles, b *blocks)
		want   string
	}{
		{"nothing happened", func(*keptFiles, *blocks) {}, "1.blk=a 2.blk=b index.db=i thw.db=h"},
		{"appended", func(k *keptFiles, _ *blocks) { k.write("2.blk", "bb") }, "1.blk=a 2.blk=bb index.db=i thw.db=h"},
		{"a new block", func(k *keptFiles, _ *blocks) { k.write("3.blk", "c") }, "1.blk=a 2.blk=b 3.blk=c index.db=i thw.db=h"},
		{"replaced", func(k *keptFiles, _ *blocks) { k.replace("1.blk", "x") }, "1.blk=a 2.blk=b"},
		{"replaced twice", func(k *keptFiles, _ *blocks) { k.replace("1.blk", "x"); k.replace("1.blk", "y") }, "1.blk=a 2.blk=b"},
		{"removed", func(k *keptFiles, _ *blocks) { k.remove("1.blk") }, "1.blk=a 2.blk=b"},
		{"replaced after an append", func(k *keptFiles, _ *blocks) { k.write("2.blk", "bb"); k.write("3.blk", "c"); k.replace("2.blk", "x") },
			"1.blk=a 2.blk=bb 3.blk=c"},
		{"replaced and synced", func(k *keptFiles, b *blocks) { k.replace("1.blk", "x"); k.sync(b) }, "1.blk=x 2.blk=b index.db=i thw.db=h"},
		{"removed and synced", func(k *keptFiles, b *blocks) { k.remove("1.blk"); k.sync(b) }, "2.blk=b index.db=i thw.db=h"},
		{"synced in between", func(k *keptFiles, b *blocks) {
			k.replace("1.blk", "x")
			k.sync(b)
			k.replace("1.blk", "y")
			k.remove("2.blk")
		},
			"1.blk=x 2.blk=b"},
		{"a restore was cut short", func(k *keptFiles, _ *blocks) { k.replace("1.blk", "x"); k.write("1.blk.kept", "half") }, "1.blk=a 2.blk=b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKeptFiles(t)
			for name, content := range map[string]string{"1.blk": "a", "2.blk": "b", "index.db": "i", "thw.db": "h"} {
				k.write(name, content)
			}
			b := k.blocks()
			k.sync(b)
			test.change(k, b)
			for range 2 { // the second time there is nothing to do
				if err := restore(k.dir, k.msgs, testLog(t)); err != nil {
					t.Fatal(err)
				}
				if got := k.state(); got != test.want {
					t.Errorf("found %s, want %s", got, test.want)
				}
			}
			// The next process goes on from there.
			again := k.blocks()
			k.sync(again)
			k.replace("2.blk", "z")
			if err := restore(k.dir, k.msgs, testLog(t)); err != nil {
				t.Fatal(err)
			}
			if got := k.state(); strings.Contains(got, "z") {
				t.Errorf("the next process did not keep: %s", got)
			}
		})
	}
}

// TestKeepSweeps: links do not pile up.
func TestKeepSweeps(t *testing.T) {
	k := newKeptFiles(t)
	k.write("1.blk", "a")
	b := k.blocks()
	for i := range 20 {
		k.replace("1.blk", fmt.Sprint(i))
		k.sync(b)
	}
	k.write("2.blk", "b")
	k.sync(b)
	entries, err := os.ReadDir(k.dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("want two links and the list, found %v, %v", entries, err)
	}
}

// TestGrabSettles: blocks that change while they are grabbed are grabbed as
// they were at one moment.
func TestGrabSettles(t *testing.T) {
	k := newKeptFiles(t)
	k.write("1.blk", "a")
	k.write("2.blk", "b")
	b := k.blocks()
	k.sync(b)
	k.replace("2.blk", "bb")
	scans := 0
	links, found, err := b.keep.grab(func() (map[string]os.FileInfo, error) {
		found, err := b.scan()
		switch scans++; scans {
		case 1: // after it was seen
			k.replace("1.blk", "aa")
			k.write("3.blk", "c")
		case 2:
			k.remove("3.blk")
		}
		return found, err
	})
	if err != nil || len(links) != 2 || len(found) != 2 {
		t.Fatalf("links %v, found %v, %v", links, found, err)
	}
	for block, l := range links {
		if !os.SameFile(l.file, found[block]) {
			t.Errorf("%s is not what it was grabbed as", block)
		}
	}
}

// TestKeptDamage: what cannot be is said, with a way out.
func TestKeptDamage(t *testing.T) {
	for name, damage := range map[string]func(k *keptFiles, b *blocks) error{
		"list": func(k *keptFiles, _ *blocks) error {
			return os.WriteFile(filepath.Join(k.dir, keptList), []byte("{"), 0o600)
		},
		"link": func(k *keptFiles, b *blocks) error {
			return os.Remove(filepath.Join(k.dir, b.keep.links["1.blk"].name))
		},
	} {
		k := newKeptFiles(t)
		k.write("1.blk", "a")
		b := k.blocks()
		k.sync(b)
		if err := damage(k, b); err != nil {
			t.Fatal(err)
		}
		if err := restore(k.dir, k.msgs, testLog(t)); err == nil || !strings.Contains(err.Error(), "remove "+k.dir) {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
	// Whoever removes the server's messages does not want them back.
	k := newKeptFiles(t)
	k.write("1.blk", "a")
	k.sync(k.blocks())
	if err := os.RemoveAll(k.msgs); err != nil {
		t.Fatal(err)
	}
	if err := restore(k.dir, k.msgs, testLog(t)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(k.dir); err == nil {
		t.Error("links are left")
	}
}

// TestNoRoom tells a full disk from one that cannot be trusted.
func TestNoRoom(t *testing.T) {
	full := &os.LinkError{Op: "link", Err: syscall.ENOSPC}
	if err := roomFor("x", full); errors.Is(err, errNoRoom) != noSpace(full) {
		t.Error(err)
	}
	if err := roomFor("x", os.ErrPermission); errors.Is(err, errNoRoom) || !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
}
