package wasi

import "testing"

// without takes rights away from a descriptor.
func (r *rawGuest) without(fd, right uint64) {
	r.t.Helper()
	had := r.table.rights(fd, r.table.open[fd].status())
	r.must(OK, "fd_fdstat_set_rights", fd, had.base&^right, had.opened)
}

// TestRights takes from the descriptor of every call that the suite has a good
// case of the right that the call needs.
func TestRights(t *testing.T) { everywhere(t, testRights) }

func testRights(t *testing.T, via *door) {
	seen := map[string]bool{}
	for _, c := range suite {
		if c.want != OK || seen[c.call] || needed[c.call] == nil {
			continue
		}
		seen[c.call] = true
		for _, n := range needed[c.call] {
			t.Run(c.call, func(t *testing.T) {
				r := suiteGuest(t, via)
				args := r.expand(c.args)
				right := n.right
				if right == rightTell {
					right |= rightSeek // which includes it
				}
				r.without(args[n.param], right)
				r.must(ENOTCAPABLE, c.call, args...)
			})
		}
	}
	if want := len(needed) - 4; len(seen) != want { // the sockets' are below
		t.Errorf("%d calls, not %d", len(seen), want)
	}
}

func TestRightsOfSockets(t *testing.T) { everywhere(t, testRightsOfSockets) }

func testRightsOfSockets(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	client, server := r.pair()
	iovs, n := r.vector(atData, 4)
	r.must(OK, "sock_send", client, iovs, n, 0, atResult)
	r.without(server, rightRead)
	r.must(ENOTCAPABLE, "sock_recv", server, iovs, n, 0, atResult, atExtra)
	r.must(OK, "sock_send", server, iovs, n, 0, atResult)
	r.without(server, rightWrite|rightPoll|rightShutdown)
	r.must(ENOTCAPABLE, "sock_send", server, iovs, n, 0, atResult)
	r.must(ENOTCAPABLE, "sock_shutdown", server, 3)
	_, errnos, errno := r.poll(sub{kind: eventRead, fd: uint32(server)})
	if errno != OK || len(errnos) != 1 || errnos[0] != ENOTCAPABLE {
		t.Errorf("poll: %v, errno %d", errnos, errno)
	}
	listener := r.listen(8081)
	r.without(listener, rightAccept)
	r.must(ENOTCAPABLE, "sock_accept", listener, 0, atResult)
	r.must(OK, "fd_close", server)
	if again := r.socket(socketStream); again != server {
		t.Errorf("descriptor %d, not %d", again, server)
	}
	r.must(ENOTCONN, "sock_send", server, iovs, n, 0, atResult) // what was taken away was the other's
}

// TestRightsGoOn: what is opened through a directory of few rights has no more.
func TestRightsGoOn(t *testing.T) { everywhere(t, testRightsGoOn) }

func testRightsGoOn(t *testing.T, via *door) {
	const createFile, setSize = 1 << 10, 1 << 19
	r, _ := dataGuest(t, via, false)
	few := uint64(rightRead | rightSeek | rightReaddir)
	r.must(OK, "fd_fdstat_set_rights", dataFD, rightsDirectory&^createFile, few)
	for _, c := range []struct {
		file                     string
		oflags, rights, inherits uint64
		want                     Errno
	}{
		{"f", 0, rightRead, 0, OK},
		{"f", 0, readWrite, 0, ENOTCAPABLE},
		{"f", 0, rightRead, rightWrite, ENOTCAPABLE},
		{"new", openCreate, rightRead, 0, ENOTCAPABLE},
		{"d", openDirectory, rightReaddir, rightRead, OK},
	} {
		p, n := r.path(atPath, c.file)
		r.must(c.want, "path_open", dataFD, 0, p, n, c.oflags, c.rights, c.inherits, 0, atResult)
	}
	deep := r.u32(atResult)
	r.must(OK, "fd_fdstat_get", deep, atResult)
	if base, opened := r.u64(atResult+8), r.u64(atResult+16); base != rightReaddir || opened != rightRead {
		t.Errorf("rights %#x, %#x", base, opened)
	}
	r.must(ENOTCAPABLE, "fd_fdstat_set_rights", deep, rightReaddir|rightRead, 0) // none come back
	p, n := r.path(atPath, "x")
	r.must(ENOTCAPABLE, "path_create_directory", deep, p, n)

	r.without(dataFD, setSize)
	p, n = r.path(atPath, "f")
	r.must(ENOTCAPABLE, "path_open", dataFD, 0, p, n, openTruncate, rightRead, 0, 0, atResult)
	r.must(OK, "path_open", dataFD, 0, p, n, 0, rightRead|rightSeek, 0, 0, atResult)
	file := r.u32(atResult)
	r.without(file, rightSeek)
	r.must(ENOTCAPABLE, "fd_tell", file, atResult) // nor was it asked for
	r.must(OK, "fd_renumber", file, deep)
	r.must(ENOTCAPABLE, "fd_seek", deep, 1, 0, atResult)
	if got, errno := r.read(deep, 9); got != "text" {
		t.Errorf("%q, errno %d", got, errno)
	}
}
