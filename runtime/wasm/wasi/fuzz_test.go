package wasi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzPoll polls for whatever the input says on descriptors of every kind: there
// is at most one event for each subscription, and each belongs to one.
func FuzzPoll(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 1, 5, 0, 2, 6, 9, 3})
	f.Add([]byte{1, 255, 255, 255, 2, 7, 0, 1, 1, 5, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "f"), "text")
		r := newRaw(t, hostDoor, Config{Mounts: []Mount{{Source: dir, Target: "/d"}}, Network: newLoop(t)})
		fds := everyKind(r)
		var subs []sub
		for ; len(data) >= 4 && len(subs) < 64; data = data[4:] {
			s := sub{kind: data[0] % 4, fd: uint32(data[1]), at: uint64(data[2]) * uint64(data[2]) << (data[3] % 40), flags: uint16(data[3] % 3)}
			if s.kind != 0 && int(data[1]) < 8*len(fds) {
				s.fd = uint32(fds[int(data[1])%len(fds)])
			} else if s.kind == 0 {
				s.fd %= 4
			}
			subs = append(subs, s)
		}
		// What waits for something that never comes is ended as a pod would be.
		defer time.AfterFunc(20*time.Millisecond, func() { r.Interrupt(137) }).Stop()
		defer func() {
			if end := recover(); end != nil && !r.cutDone.Load() {
				t.Errorf("panic: %v", end)
			}
		}()
		events, _, errno := r.poll(subs...)
		if errno != OK {
			return
		}
		if len(events) > len(subs) || len(events) == 0 {
			t.Errorf("%d events for %d subscriptions", len(events), len(subs))
		}
		seen := map[int]bool{}
		for _, n := range events {
			if n < 0 || n >= len(subs) || seen[n] {
				t.Errorf("event of subscription %d of %d, or its second", n, len(subs))
			}
			seen[n] = true
		}
	})
}

// FuzzPaths makes calls on any two paths, one after the other: what lies outside
// of the mount stays as it is and unread.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{"f\x00g", "d/../../secret\x00f", "../secret\x00d/x", "l\x00../secret", "d//./f\x00d/", "/\x00..", ".\x00d/.."} {
		for calls := range byte(12) {
			f.Add(p, []byte{calls, 0, 3, 11 - calls, 7})
		}
	}
	f.Fuzz(func(t *testing.T, paths string, calls []byte) {
		a, b, _ := strings.Cut(paths, "\x00")
		if len(a) > 1000 || len(b) > 1000 || len(calls) > 32 {
			return
		}
		r, data := dataGuest(t, hostDoor, false)
		outside := filepath.Dir(data)
		for _, c := range calls {
			p, n := r.path(atPath, a)
			o, on := r.path(atOther, b)
			switch c % 12 {
			case 0, 1, 2:
				fd, errno := r.open(dataFD, a, uint64(c/12%16), readWrite, 0)
				if errno != OK {
					break
				}
				if got, _ := r.read(fd, 10); strings.HasPrefix(got, "secret") {
					t.Fatalf("%q leads out", a)
				}
				r.write(fd, "written")
			case 3:
				r.symlink(b, dataFD, a)
			case 4:
				r.rename(a, b)
			case 5:
				r.call("path_link", dataFD, 0, p, n, dataFD, o, on)
			case 6:
				r.on("path_unlink_file", a)
			case 7:
				r.on("path_remove_directory", a)
			case 8:
				r.on("path_create_directory", a)
			case 9:
				r.call("path_filestat_set_times", dataFD, followLinks, p, n, 1, 1, 5)
			case 10:
				r.call("wherry_path_mode_set", dataFD, p, n, 0)
			case 11:
				a, b = b, a
			}
		}
		if got, err := os.ReadFile(filepath.Join(outside, "secret")); string(got) != "secret" || err != nil {
			t.Errorf("the secret is %q, %v", got, err)
		}
		if list, err := os.ReadDir(outside); len(list) != 2 || err != nil {
			t.Errorf("outside there are %v, %v", list, err)
		}
	})
}
