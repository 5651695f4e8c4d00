package app

import (
	"hash/crc32"
	"io"
	"os"
	"testing"
)

func TestMappingsOf(t *testing.T) {
	const smaps = `00400000-01a8b000 r--p 00000000 fe:00 9978839                            /opt/my tools/wherry
Size:              22060 kB
Rss:                3564 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me 
01a8b000-04a1c000 r-xp 0168b000 fe:00 9978839                            /opt/my tools/wherry
Rss:               46660 kB
Private_Dirty:      1024 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me 
081fe000-081ff000 r--p 07dfd000 fe:00 9978839                            /opt/my tools/wherry
Rss:                   4 kB
Anonymous:             4 kB
081ff000-0835c000 rw-p 07dfe000 fe:00 9978839                            /opt/my tools/wherry
Rss:                1396 kB
Anonymous:             0 kB
0835c000-08360000 r--p 00000000 fe:00 9978840                            /opt/my
Rss:                   4 kB
30ee17400000-30ee19000000 rw-p 00000000 00:00 0 
Rss:               23248 kB
7f1a69568000-7f1a696be000 r-xp 00026000 fe:00 326269                     /usr/lib/x86_64-linux-gnu/libc.so.6
Rss:                 920 kB
`
	want := []mapping{
		{from: 0x400000, to: 0x1a8b000, permissions: "r--p", resident: 3564},
		{from: 0x1a8b000, to: 0x4a1c000, permissions: "r-xp", resident: 46660},
		{from: 0x81fe000, to: 0x81ff000, permissions: "r--p", resident: 4, changed: 4},
		{from: 0x81ff000, to: 0x835c000, permissions: "rw-p", resident: 1396},
	}
	got := mappingsOf([]byte(smaps), "/opt/my tools/wherry")
	if len(got) != len(want) {
		t.Fatalf("%d mappings, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("mapping %d is %+v, want %+v", i, got[i], want[i])
		}
		if clean := i < 2; got[i].clean() != clean {
			t.Errorf("mapping %d: clean is %v", i, !clean)
		}
	}
}

// TestDropProgramPages drops the pages of this very test: it goes on, with the
// same code and constants.
func TestDropProgramPages(t *testing.T) {
	before, sum := programPages(t)
	if before == 0 {
		t.Skip("the program's mappings are not known here")
	}
	dropProgramPages()
	after := residentProgram(t)
	if after >= before {
		t.Errorf("%d KiB of the program are resident, before it were %d", after, before)
	}
	if _, again := programPages(t); again != sum {
		t.Error("the program is not what it was")
	}
}

// programPages reads all that can be dropped of the program, and tells how much
// of it is resident then, in KiB, and its sum.
func programPages(t *testing.T) (resident uint64, sum uint32) {
	t.Helper()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer memory.Close()
	hash := crc32.NewIEEE()
	for _, m := range programMappings(t) {
		if _, err := io.Copy(hash, io.NewSectionReader(memory, int64(m.from), int64(m.to-m.from))); err != nil {
			t.Fatal(err)
		}
	}
	return residentProgram(t), hash.Sum32()
}

func residentProgram(t *testing.T) (kib uint64) {
	t.Helper()
	for _, m := range programMappings(t) {
		kib += m.resident
	}
	return kib
}

func programMappings(t *testing.T) (clean []mapping) {
	t.Helper()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	for _, m := range mappingsOf(smaps, program) {
		if m.clean() {
			clean = append(clean, m)
		}
	}
	return clean
}
