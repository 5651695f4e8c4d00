package wasi

import "slices"

// File types of the specification.
const (
	typeUnknown      = 0
	typeCharDevice   = 2
	typeDirectory    = 3
	typeRegular      = 4
	typeSocketDgram  = 5
	typeSocketStream = 6
	typeSymlink      = 7
)

// Descriptor flags.
const (
	flagAppend   = 1 << 0
	flagDsync    = 1 << 1
	flagNonblock = 1 << 2
	flagRsync    = 1 << 3
	flagSync     = 1 << 4
)

// Rights: at path_open they carry the access mode of a file. Those that only
// one call needs are in rights.go.
const (
	rightDatasync   = 1 << 0
	rightRead       = 1 << 1
	rightSeek       = 1 << 2
	rightTell       = 1 << 5
	rightWrite      = 1 << 6
	rightAllocate   = 1 << 8
	rightReaddir    = 1 << 14
	rightPoll       = 1 << 27
	rightSetSize    = 1 << 22
	rightShutdown   = 1 << 28
	rightAccept     = 1 << 29
	rightsAll       = 1<<30 - 1
	rightsDirectory = rightsAll &^ (rightRead | rightWrite | rightShutdown | rightAccept | rightAllocate | rightSetSize)
	rightsFile      = rightsAll &^ (rightReaddir | rightShutdown | rightAccept)
	rightsStream    = rightRead | rightWrite | 1<<3 | 1<<21 | rightPoll | rightShutdown | rightAccept
	rightsForReads  = rightRead | rightReaddir
	rightsForWrites = rightWrite | rightDatasync | rightAllocate | rightSetSize
)

// status is what fd_fdstat_get tells.
type status struct {
	kind         byte
	flags        uint16
	rights       uint64
	rightsOpened uint64
}

// descriptor is anything that a number of the table stands for.
type descriptor interface {
	status() status
	close() Errno
}

// stream is a descriptor of bytes without a position. Try methods answer
// EAGAIN instead of waiting.
type stream interface {
	descriptor
	tryRead(bufs [][]byte) (int, Errno)
	tryWrite(bufs [][]byte) (int, Errno)
	ready() readiness
	blocking() bool
	setBlocking(bool)
}

// readiness is what poll_oneoff asks.
type readiness struct {
	read, write bool
	unread      int
	hangup      bool
	errno       Errno
}

// table numbers descriptors, lowest first.
type table struct {
	open    []descriptor
	host    *Descriptors
	files   int // how many of them hold a descriptor of the host
	sockets int
	entries int // of all directories that are being listed
	// held are the rights of descriptors that lost some; nil while there are none.
	held map[uint32]rights
}

// maxDescriptors bounds one guest's table, as RLIMIT_NOFILE would.
const maxDescriptors = 1 << 16

// maxFiles bounds the files that one guest has open, because each of them is a
// descriptor of the host, which all guests and the cluster itself share. It is
// the usual soft limit of a process.
const maxFiles = 1024

// maxSockets bounds the sockets that one guest has open. They are memory of the
// host, some KiB each; what their buffers hold is bounded for all of a pod.
const maxSockets = 1 << 14

// hasRoomForSocket reports whether one more socket may be added.
func (t *table) hasRoomForSocket() bool { return t.sockets < maxSockets }

func (t *table) add(d descriptor) (uint32, Errno) {
	at := slices.Index(t.open, nil)
	if at < 0 {
		if at = len(t.open); at >= maxDescriptors {
			return 0, EMFILE
		}
		t.open = append(t.open, nil)
	}
	t.open[at] = d
	switch d.(type) {
	case *file:
		t.files++
	case *socket, *packetSocket:
		t.sockets++
	}
	return uint32(at), OK
}

func (t *table) get(fd uint64) (descriptor, Errno) {
	n := uint32(fd)
	if n >= uint32(len(t.open)) || t.open[n] == nil {
		return nil, EBADF
	}
	return t.open[n], OK
}

func (t *table) close(fd uint64) Errno {
	d, errno := t.get(fd)
	if errno != OK {
		return errno
	}
	t.open[uint32(fd)] = nil
	delete(t.held, uint32(fd))
	return t.end(d)
}

// end closes what has left the table.
func (t *table) end(d descriptor) Errno {
	switch d := d.(type) {
	case *file:
		t.files--
		defer t.host.Give()
	case *socket, *packetSocket:
		t.sockets--
	case *dir:
		t.entries -= len(d.entries)
	}
	return d.close()
}

func (t *table) closeAll() {
	for i, d := range t.open {
		if d != nil {
			t.open[i] = nil
			t.end(d)
		}
	}
}

// renumber moves from to the number to, closing what was there.
func (t *table) renumber(from, to uint64) Errno {
	d, errno := t.get(from)
	if errno != OK {
		return errno
	}
	if _, errno := t.get(to); errno != OK {
		return errno
	}
	if uint32(from) == uint32(to) {
		return OK
	}
	t.end(t.open[uint32(to)])
	t.open[uint32(to)] = d
	t.open[uint32(from)] = nil
	delete(t.held, uint32(to))
	if r, ok := t.held[uint32(from)]; ok {
		delete(t.held, uint32(from))
		t.held[uint32(to)] = r
	}
	return OK
}

// getAs returns the descriptor if it is of the given kind, else errno.
func getAs[T any](t *table, fd uint64, other Errno) (T, Errno) {
	var none T
	d, errno := t.get(fd)
	if errno != OK {
		return none, errno
	}
	as, ok := d.(T)
	if !ok {
		return none, other
	}
	return as, OK
}
