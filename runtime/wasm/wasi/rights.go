package wasi

// rights are what may be done with a descriptor, and with what is opened
// through it.
type rights struct{ base, opened uint64 }

// need is a right that a call's descriptor must have, by the place of the
// descriptor among the parameters.
type need struct {
	param int
	right uint64
}

// needed are the rights of each call, as the specification gives them
// (legacy/preview1/docs.md, "rights"). What depends on other parameters is
// checked by the call itself.
var needed = map[string][]need{
	"fd_advise":               {{0, 1 << 7}},
	"fd_allocate":             {{0, rightAllocate}},
	"fd_datasync":             {{0, rightDatasync}},
	"fd_fdstat_set_flags":     {{0, 1 << 3}},
	"fd_filestat_get":         {{0, 1 << 21}},
	"fd_filestat_set_size":    {{0, rightSetSize}},
	"fd_filestat_set_times":   {{0, 1 << 23}},
	"fd_pread":                {{0, rightRead | rightSeek}},
	"fd_pwrite":               {{0, rightWrite | rightSeek}},
	"fd_read":                 {{0, rightRead}},
	"fd_readdir":              {{0, rightReaddir}},
	"fd_sync":                 {{0, 1 << 4}},
	"fd_tell":                 {{0, rightTell}},
	"fd_write":                {{0, rightWrite}},
	"path_create_directory":   {{0, 1 << 9}},
	"path_filestat_get":       {{0, 1 << 18}},
	"path_filestat_set_times": {{0, 1 << 20}},
	"path_link":               {{0, 1 << 11}, {4, 1 << 12}},
	"path_open":               {{0, 1 << 13}},
	"path_readlink":           {{0, 1 << 15}},
	"path_remove_directory":   {{0, 1 << 25}},
	"path_rename":             {{0, 1 << 16}, {3, 1 << 17}},
	"path_symlink":            {{2, 1 << 24}},
	"path_unlink_file":        {{0, 1 << 26}},
	"sock_accept":             {{0, rightAccept}},
	"sock_recv":               {{0, rightRead}},
	"sock_send":               {{0, rightWrite}},
	"sock_shutdown":           {{0, rightShutdown}},
}

// checked is what a call does once the rights of its descriptors allow it.
func (c systemCall) checked(name string) func(*Guest, memory, []uint64) Errno {
	needs := needed[name]
	if len(needs) == 0 {
		return c.do
	}
	return func(g *Guest, m memory, p []uint64) Errno {
		if g.table.held != nil {
			for _, n := range needs {
				if errno := g.table.allows(p[n.param], n.right); errno != OK {
					return errno
				}
			}
		}
		return c.do(g, m, p)
	}
}

// rights of a descriptor: those that it came with, unless fewer are left.
func (t *table) rights(fd uint64, s status) rights {
	if r, ok := t.held[uint32(fd)]; ok {
		return r
	}
	return rights{s.rights, s.rightsOpened}
}

// allows reports ENOTCAPABLE for a descriptor whose rights were taken away.
// What it came without is the concern of each call, whose errors are those of
// POSIX.
func (t *table) allows(fd, right uint64) Errno {
	r, ok := t.held[uint32(fd)]
	if right == rightTell && r.base&rightSeek != 0 {
		return OK // seeking to where one is
	}
	if ok && right&^r.base != 0 {
		return ENOTCAPABLE
	}
	return OK
}

// limit leaves a descriptor no more than some of its rights.
func (t *table) limit(fd uint64, r rights) {
	if t.held == nil {
		t.held = map[uint32]rights{}
	}
	t.held[uint32(fd)] = r
}

// opens checks what path_open wants to make and to do with the result against
// the rights of the directory.
func (t *table) opens(fd uint64, r openRequest) Errno {
	held, ok := t.held[uint32(fd)]
	if !ok {
		return OK
	}
	const createFile, setSize = 1 << 10, 1 << 19
	var right uint64
	if r.wants(openCreate) {
		right |= createFile
	}
	if r.wants(openTruncate) {
		right |= setSize
	}
	if right&^held.base != 0 || (r.rights|r.inherits)&^held.opened != 0 {
		return ENOTCAPABLE
	}
	return OK
}

// inherit gives what was opened through a directory of few rights the rights
// that were asked for, and no others.
func (t *table) inherit(from uint64, fd uint32, r openRequest) {
	if _, ok := t.held[uint32(from)]; ok {
		s := t.open[fd].status()
		t.limit(uint64(fd), rights{r.rights & s.rights, r.inherits & s.rightsOpened})
	}
}
