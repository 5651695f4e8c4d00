package natskv

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

// childDir, when set, makes the test binary a process that writes to a bucket
// in this directory until it is killed.
const childDir = "WHERRY_TEST_WRITE_TO"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(dir string) error {
	ctx := context.Background()
	b, err := Open(ctx, Config{Dir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	s := store.New(b, store.Options{})
	ended := make(chan error, 3)
	go func() { ended <- b.Run(ctx) }()
	go func() { ended <- s.Run(ctx) }()
	if err := s.WaitReady(ctx); err != nil {
		return err
	}
	go func() { ended <- writeLoad(ctx, s, 16, 2000, os.Stdout) }()
	return <-ended
}

// TestKill kills a writing process without warning, again and again on the
// same directory; each acknowledged write must be there.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	for round := range 3 {
		known := killWriter(t, dir, 300+200*round)
		s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) { return run(t, Config{Dir: dir}) }, store.Options{})
		if lost := known.lost(t, s); len(lost) > 0 {
			t.Fatalf("round %d: killing the process took acknowledged writes:\n%s", round, strings.Join(lost, "\n"))
		}
		if s.Revision() < last {
			t.Errorf("round %d: revision %d after %d", round, s.Revision(), last)
		}
		last = s.Revision()
		deleteAll(t, s)
		stop()
	}
}

// killWriter starts a writing process and kills it after so many
// acknowledgements; it returns what the process has printed.
func killWriter(t *testing.T, dir string, acks int) *journal {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	j, lines := newJournal(), bufio.NewReader(out)
	err = j.readAll(lines, acks)
	if killErr := child.Process.Kill(); err == nil {
		err = killErr
	}
	if err == nil {
		err = j.readAll(lines, 1<<62) // what was printed before it died
	}
	if err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err == nil || j.acks < acks {
		t.Fatalf("the writer ended by itself after %d acknowledgements: %v", j.acks, err)
	}
	return j
}
