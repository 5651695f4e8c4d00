package app_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pty is a terminal at which a test sits; a command is at its other end.
type pty struct {
	master *os.File
	shown  *screen
	drawn  chan struct{} // closed when nothing more will be shown
}

// startInTerminal starts a command in a terminal of its own of 80 by 24
// characters.
func startInTerminal(t *testing.T, cmd *exec.Cmd) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine has no terminals: ", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this machine has no terminals: ", err)
	}
	p := &pty{master: master, shown: newScreen(), drawn: make(chan struct{})}
	p.resize(t, 80, 24)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close() // the command has it
	go func() {
		defer close(p.drawn)
		_, _ = io.Copy(p.shown, master) // ends with EIO when the command has ended
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.drawn
		_ = master.Close()
	})
	return p
}

func (p *pty) resize(t *testing.T, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func (p *pty) enter(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintf(p.master, "%s\r", line); err != nil {
		t.Fatal(err)
	}
}
