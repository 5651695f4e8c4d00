package wasi

import (
	"encoding/binary"
	"io"
	"math"
)

func fdClose(g *Guest, _ memory, p []uint64) Errno { return g.table.close(p[0]) }

func fdRenumber(g *Guest, _ memory, p []uint64) Errno { return g.table.renumber(p[0], p[1]) }

// fdRead serves fd_read: (fd, iovs, count, *n).
func fdRead(g *Guest, m memory, p []uint64) Errno {
	return g.transfer(m, p[1], p[2], p[3], func(bufs [][]byte) (int, Errno) {
		d, errno := g.table.get(p[0])
		if errno != OK {
			return 0, errno
		}
		switch d := d.(type) {
		case stream:
			return g.readStream(d, bufs)
		case *file:
			return d.read(g, bufs)
		case *dir:
			return 0, EISDIR
		}
		return 0, EBADF
	})
}

// fdWrite serves fd_write: (fd, iovs, count, *n).
func fdWrite(g *Guest, m memory, p []uint64) Errno {
	return g.transfer(m, p[1], p[2], p[3], func(bufs [][]byte) (int, Errno) {
		d, errno := g.table.get(p[0])
		if errno != OK {
			return 0, errno
		}
		switch d := d.(type) {
		case stream:
			return g.writeStream(d, bufs)
		case *file:
			return d.write(g, bufs)
		case *dir:
			return 0, EISDIR
		}
		return 0, EBADF
	})
}

func fdPread(g *Guest, m memory, p []uint64) Errno {
	return g.transfer(m, p[1], p[2], p[4], func(bufs [][]byte) (int, Errno) {
		f, errno := g.positioned(p[0])
		if errno != OK {
			return 0, errno
		}
		return f.readAt(g, bufs, int64(p[3]))
	})
}

func fdPwrite(g *Guest, m memory, p []uint64) Errno {
	return g.transfer(m, p[1], p[2], p[4], func(bufs [][]byte) (int, Errno) {
		f, errno := g.positioned(p[0])
		if errno != OK {
			return 0, errno
		}
		return f.writeAt(g, bufs, int64(p[3]))
	})
}

// positioned returns a regular file; directories and streams have no position.
func (g *Guest) positioned(fd uint64) (*file, Errno) {
	d, errno := g.table.get(fd)
	if errno != OK {
		return nil, errno
	}
	switch d := d.(type) {
	case *file:
		return d, OK
	case *dir:
		return nil, EISDIR
	}
	return nil, ESPIPE
}

// transfer decodes vectors, lets do move bytes, and stores their number.
func (g *Guest) transfer(m memory, iovs, count, result uint64, do func([][]byte) (int, Errno)) Errno {
	bufs, errno := m.vectors(g.iovs[:0], iovs, count)
	if errno != OK {
		return errno
	}
	n, errno := do(bufs)
	clear(bufs) // they are views on memory that may go away
	g.iovs = bufs[:0]
	if errno != OK {
		return errno
	}
	return m.put32(result, uint64(n))
}

func (g *Guest) readStream(s stream, bufs [][]byte) (n int, _ Errno) {
	errno := g.await(!s.blocking(), func() (errno Errno) {
		n, errno = s.tryRead(bufs)
		return errno
	})
	return n, errno
}

// writeStream writes all on a blocking stream, what fits on another.
func (g *Guest) writeStream(s stream, bufs [][]byte) (int, Errno) {
	if !s.blocking() {
		return s.tryWrite(bufs)
	}
	total := 0
	for {
		var n int
		errno := g.await(false, func() (errno Errno) {
			n, errno = s.tryWrite(bufs)
			return errno
		})
		g.checkpoint()
		total += n
		bufs = advance(bufs, n)
		if len(bufs) == 0 {
			return total, errno
		}
		if errno != OK {
			if total > 0 {
				return total, OK
			}
			return 0, errno
		}
	}
}

// advance drops n bytes from the front of bufs, and what is empty then.
func advance(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if len(bufs) > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

func fdFdstatGet(g *Guest, m memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	b, ok := m.bytes(p[1], 24)
	if !ok {
		return EFAULT
	}
	s := d.status()
	r := g.table.rights(p[0], s)
	clear(b)
	b[0] = s.kind
	binary.LittleEndian.PutUint16(b[2:], s.flags)
	binary.LittleEndian.PutUint64(b[8:], r.base)
	binary.LittleEndian.PutUint64(b[16:], r.opened)
	return OK
}

func fdFdstatSetFlags(g *Guest, _ memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	flags := uint16(p[1])
	if flags&^(flagAppend|flagDsync|flagNonblock|flagRsync|flagSync) != 0 {
		return EINVAL
	}
	switch d := d.(type) {
	case stream:
		d.setBlocking(flags&flagNonblock == 0)
	case *file:
		if d.appends && flags&flagAppend == 0 {
			return ENOTSUP // the host's file stays in append mode
		}
		d.flags = flags
	case *dir:
		d.flags = flags & flagNonblock
	}
	return OK
}

// fdFdstatSetRights takes rights away; none can be added.
func fdFdstatSetRights(g *Guest, _ memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	r := g.table.rights(p[0], d.status())
	if p[1]&^r.base != 0 || p[2]&^r.opened != 0 {
		return ENOTCAPABLE
	}
	g.table.limit(p[0], rights{p[1], p[2]})
	return OK
}

func fdSeek(g *Guest, m memory, p []uint64) Errno {
	f, errno := g.positioned(p[0])
	if errno != OK {
		return errno
	}
	whence := int(uint32(p[2]))
	if whence > io.SeekEnd {
		return EINVAL
	}
	right := uint64(rightSeek)
	if whence == io.SeekCurrent && p[1] == 0 {
		right = rightTell
	}
	if errno := g.table.allows(p[0], right); errno != OK {
		return errno
	}
	at, err := f.f.Seek(int64(p[1]), whence)
	if err != nil {
		return toErrno(err)
	}
	return m.put64(p[3], uint64(at))
}

func fdTell(g *Guest, m memory, p []uint64) Errno {
	f, errno := g.positioned(p[0])
	if errno != OK {
		return errno
	}
	at, err := f.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return toErrno(err)
	}
	return m.put64(p[1], uint64(at))
}

func fdSync(g *Guest, _ memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	switch d := d.(type) {
	case *file:
		return toErrno(d.f.Sync())
	case *dir:
		return OK
	}
	return EINVAL
}

func fdAdvise(g *Guest, _ memory, p []uint64) Errno {
	const lastAdvice = 5
	if _, errno := g.positioned(p[0]); errno != OK && errno != EISDIR {
		return errno
	}
	if uint32(p[3]) > lastAdvice {
		return EINVAL
	}
	return OK // advice need not be taken
}

func fdAllocate(g *Guest, _ memory, p []uint64) Errno {
	f, errno := g.positioned(p[0])
	if errno != OK {
		return errno
	}
	return f.allocate(p[1], p[2])
}

func fdFilestatGet(g *Guest, m memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	s := filestat{kind: d.status().kind, links: 1}
	switch d := d.(type) {
	case *file:
		info, err := d.f.Stat()
		if err != nil {
			return toErrno(err)
		}
		s = d.tree.filestat(info)
	case *dir:
		at, errno := d.tree.locate(d.path)
		if errno != OK {
			return errno
		}
		if s, errno = at.stat(true); errno != OK {
			return errno
		}
	}
	return m.putFilestat(p[1], s)
}

func fdFilestatSetSize(g *Guest, _ memory, p []uint64) Errno {
	f, errno := g.positioned(p[0])
	if errno != OK {
		return errno
	}
	if p[1] > math.MaxInt64 || f.may(rightWrite) != OK {
		return EINVAL // ftruncate(2): a file that is not open for writing
	}
	return f.resize(int64(p[1]))
}

func fdFilestatSetTimes(g *Guest, _ memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	switch d := d.(type) {
	case *file:
		return d.setTimes(p[1], p[2], p[3])
	case *dir:
		at, errno := d.tree.locate(d.path)
		if errno != OK {
			return errno
		}
		return at.setTimes(p[1], p[2], p[3])
	}
	return EINVAL
}

func fdPrestatGet(g *Guest, m memory, p []uint64) Errno {
	d, errno := g.table.get(p[0])
	if errno != OK {
		return errno
	}
	switch d := d.(type) {
	case *dir:
		if !d.preopen {
			return EBADF
		}
		if errno := m.put32(p[1], 0); errno != OK {
			return errno
		}
		return m.put32(p[1]+4, uint64(len(d.tree.target)))
	case *socket:
		if !d.preopened {
			return EBADF
		}
		// Not a directory, but not the end of the list either: with EBADF here
		// the libraries of C and Go would not look for the directories behind.
		const typeNotDirectory = 1
		return m.put32(p[1], typeNotDirectory)
	}
	return EBADF
}

func fdPrestatDirName(g *Guest, m memory, p []uint64) Errno {
	d, errno := getAs[*dir](&g.table, p[0], EBADF)
	if errno != OK || !d.preopen {
		return EBADF
	}
	if uint64(uint32(p[2])) < uint64(len(d.tree.target)) {
		return ENAMETOOLONG
	}
	if !m.WriteString(uint32(p[1]), d.tree.target) {
		return EFAULT
	}
	return OK
}

func fdReaddir(g *Guest, m memory, p []uint64) Errno {
	d, errno := getAs[*dir](&g.table, p[0], ENOTDIR)
	if errno != OK {
		return errno
	}
	buf, ok := m.bytes(p[1], p[2])
	if !ok {
		return EFAULT
	}
	held := len(d.entries)
	n, errno := d.readdir(buf, p[3])
	if errno != OK {
		return errno
	}
	if g.table.entries += len(d.entries) - held; g.table.entries > maxEntries {
		g.table.entries -= len(d.entries)
		d.entries = nil
		return ENOMEM
	}
	return m.put32(p[4], uint64(n))
}
