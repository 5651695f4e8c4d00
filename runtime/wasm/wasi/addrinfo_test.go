package wasi

import "testing"

// results lays out a list of addrinfo for getaddrinfo, as its clients do.
func (r *rawGuest) results(count uint32) uint64 {
	const hints, list, each = atHints, atInfos, 128
	r.m.Write(hints, make([]byte, addrinfoSize))
	for i := range count {
		at := uint32(list + i*each)
		r.m.WriteUint32Le(at+12, at+32)
		r.m.WriteUint32Le(at+32+8, at+64)
		next := at + each
		if i+1 == count {
			next = 0
		}
		r.m.WriteUint32Le(at+24, next)
	}
	r.m.WriteUint32Le(atExtra, list)
	return hints
}

func TestAddrInfo(t *testing.T) { everywhere(t, testAddrInfo) }

func testAddrInfo(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	look := func(name, service string, room uint32, limit uint64) Errno {
		n, nn := r.path(atPath, name)
		s, sn := r.path(atOther, service)
		return r.call("sock_getaddrinfo", n, nn, s, sn, r.results(room), atExtra, limit, atResult)
	}
	for _, c := range []struct {
		name, service string
		room          uint32
		limit         uint64
		want          Errno
		found         uint64
	}{
		{"here", "80", 2, 10, OK, 2},
		{"here\x00", "http\x00", 1, 10, OK, 1},
		{"here", "", 2, 1, OK, 1},
		{"here", "80", 2, 0, OK, 0},
		{"10.1.2.3", "443", 1, 1, OK, 1},
		{"", "80", 1, 1, OK, 1},
		{"nowhere", "80", 1, 1, ENOENT, 0},
		{"here", "65536", 1, 1, EINVAL, 0},
		{"here", "gopher", 1, 1, EINVAL, 0},
	} {
		r.m.WriteUint32Le(atResult, 0)
		if errno := look(c.name, c.service, c.room, c.limit); errno != c.want || r.u32(atResult) != c.found {
			t.Errorf("%q: errno %d, %d found", c.name, errno, r.u32(atResult))
		}
	}
	look("here", "80", 1, 1)
	if got := r.text(atInfos+64, 6); got != "\x00\x50\xc0\x00\x02\x01" {
		t.Errorf("address %q", got)
	}
	n, nn := r.path(atPath, "here")
	hints := r.results(2)
	r.m.WriteUint32Le(atInfos+12, 1<<32-4) // a sockaddr nowhere
	r.must(EFAULT, "sock_getaddrinfo", n, nn, atOther, 0, hints, atExtra, 2, atResult)
}
