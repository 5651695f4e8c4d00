package wasi

import (
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/experimental/wazerotest"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

var someone = netip.MustParseAddrPort("192.0.2.1:53")

// noNetwork has nothing that a test may reach.
type noNetwork struct{ Network }

// longest counts the bytes of the longest single Write.
type longest int

func (l *longest) Write(b []byte) (int, error) {
	*l = max(*l, longest(len(b)))
	return len(b), nil
}

func testGuest(t *testing.T, c Config) (*Guest, memory) {
	t.Helper()
	g, err := NewGuest(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, memory{wazerotest.NewFixedMemory(64 * wazerotest.PageSize)}
}

// overlapping stores vectors at 0 each of which is all of the memory.
func overlapping(m memory, count uint32) {
	for i := range count {
		m.WriteUint32Le(i*8, 0)
		m.WriteUint32Le(i*8+4, m.Size())
	}
}

// TestOverlappingVectors: 1024 views of 4 MiB come to 4 GiB, which the host
// must never put together.
func TestOverlappingVectors(t *testing.T) {
	var out longest
	g, m := testGuest(t, Config{Stdout: &out})
	overlapping(m, maxVectors)
	g.table.open[1].(stream).setBlocking(false)
	const result = 16000
	if errno := fdWrite(g, m, []uint64{1, 0, maxVectors, result}); errno != OK {
		t.Fatal(errno)
	}
	if n, _ := m.ReadUint32Le(result); n != uint32(out) || out == 0 || out > maxWrite {
		t.Errorf("wrote %d bytes in a Write of %d", n, out)
	}
}

func TestOverlappingDatagram(t *testing.T) {
	g, m := testGuest(t, Config{})
	sent := false
	s := &packetSocket{guest: g, packets: memconn.NewPackets(someone, func([]byte, netip.AddrPort) error {
		sent = true
		return nil
	}, nil)}
	overlapping(m, maxVectors)
	bufs, errno := m.vectors(nil, 0, maxVectors)
	if errno != OK {
		t.Fatal(errno)
	}
	if _, errno := s.sendTo(bufs, someone); errno != EMSGSIZE || sent || cap(g.scratch) > 2*maxDatagram {
		t.Errorf("errno %d, sent %v, scratch of %d", errno, sent, cap(g.scratch))
	}
}

// TestLongPaths: what the host keeps of a path is not in the guest's limit.
func TestLongPaths(t *testing.T) {
	g, m := testGuest(t, Config{Mounts: []Mount{{Source: t.TempDir(), Target: "/data"}}})
	if _, _, errno := g.target(m, 3, 0, maxPath+1); errno != ENAMETOOLONG {
		t.Errorf("errno %d", errno)
	}
	d := g.table.open[3].(*dir)
	for range maxPath {
		opened, errno := d.open(g, "./././././././.", openRequest{})
		if errno == ENAMETOOLONG {
			return
		}
		if errno != OK {
			t.Fatal(errno)
		}
		d = opened.(*dir)
	}
	t.Errorf("a directory's path has %d bytes", len(d.path))
}

func TestFilesAreBounded(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g, m := testGuest(t, Config{Mounts: []Mount{{Source: data, Target: "/data"}}})
	m.Write(0, []byte("f"))
	open := func() Errno { return pathOpen(g, m, []uint64{3, 0, 0, 1, 0, rightRead, 0, 0, 64}) }
	for range maxFiles {
		if errno := open(); errno != OK {
			t.Fatal(errno)
		}
	}
	if errno := open(); errno != EMFILE {
		t.Errorf("errno %d", errno)
	}
	last, _ := m.ReadUint32Le(64)
	if errno := g.table.close(uint64(last)); errno != OK {
		t.Fatal(errno)
	}
	if errno := open(); errno != OK {
		t.Errorf("errno %d after a close", errno)
	}
}

func TestListingsAreCounted(t *testing.T) {
	data := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(data, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, m := testGuest(t, Config{Mounts: []Mount{{Source: data, Target: "/data"}}})
	list := func() Errno { return fdReaddir(g, m, []uint64{3, 0, 4096, 0, 8000}) }
	if errno := list(); errno != OK || g.table.entries != 4 {
		t.Fatalf("errno %d, %d entries", errno, g.table.entries)
	}
	g.table.entries = maxEntries
	if errno := list(); errno != OK { // its own are counted once
		t.Errorf("errno %d", errno)
	}
	g.table.open[3].(*dir).entries = nil
	if errno := list(); errno != ENOMEM || g.table.entries != maxEntries {
		t.Errorf("errno %d, %d entries", errno, g.table.entries)
	}
}

func TestLongHostName(t *testing.T) {
	g, m := testGuest(t, Config{Network: noNetwork{}})
	m.Write(0, []byte(strings.Repeat("a", maxHost+1)))
	if errno := sockAddrInfo(g, m, []uint64{0, maxHost + 1, 0, 0, 1024, 2048, 1, 4096}); errno != ENAMETOOLONG {
		t.Errorf("errno %d", errno)
	}
}

// TestInterruptedRandom ends within a long call.
func TestInterruptedRandom(t *testing.T) {
	g, m := testGuest(t, Config{Stdin: io.LimitReader(nil, 0)})
	g.Interrupt(137)
	defer func() {
		if recover() == nil {
			t.Error("an interrupted guest went on")
		}
		b, _ := m.Read(2<<20, 8)
		if binary.LittleEndian.Uint64(b) != 0 {
			t.Error("all of the memory was filled")
		}
	}()
	randomGet(g, m, []uint64{0, uint64(m.Size())})
}
