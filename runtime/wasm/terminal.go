package wasm

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"
)

// Control characters that a terminal understands.
const (
	charInterrupt = 3   // ^C
	charEnd       = 4   // ^D
	charErase     = 8   // ^H
	charEraseWord = 23  // ^W
	charEraseLine = 21  // ^U
	charDelete    = 127 // what most keyboards send for backspace
)

// terminal is the line discipline between a guest and the terminal of its
// user, which is in raw mode: what POSIX calls canonical mode with ECHO, ICRNL,
// ONLCR and ISIG (https://pubs.opengroup.org/onlinepubs/9699919799/basedefs/V1_chap11.html).
// One goroutine reads, any may write.
type terminal struct {
	in        io.Reader
	controls  bool // ^C and ^D are handed to the guest, which knows what to do
	interrupt func()

	line  []byte // being edited
	ready []byte // lines that are complete
	ended bool
	err   error // of in

	mu  sync.Mutex
	out io.Writer
}

func newTerminal(in io.Reader, out io.Writer, controls bool, interrupt func()) *terminal {
	return &terminal{in: in, out: out, controls: controls, interrupt: interrupt}
}

// Read returns complete lines.
func (t *terminal) Read(p []byte) (int, error) {
	buf := make([]byte, 1024)
	for len(t.ready) == 0 {
		switch {
		case t.ended:
			return 0, io.EOF
		case t.err != nil:
			// What was typed without a newline is still input.
			if t.ready, t.line = t.line, nil; len(t.ready) == 0 {
				return 0, t.err
			}
			continue
		case t.in == nil:
			return 0, io.EOF
		}
		var n int
		n, t.err = t.in.Read(buf)
		for _, b := range buf[:n] {
			t.key(b)
		}
	}
	n := copy(p, t.ready)
	t.ready = t.ready[n:]
	return n, nil
}

// key takes one byte of input.
func (t *terminal) key(b byte) {
	switch b {
	case '\r', '\n':
		t.echo("\r\n")
		t.ready = append(append(t.ready, t.line...), '\n')
		t.line = nil
	case charInterrupt:
		t.echo("^C\r\n")
		t.line, t.ready = nil, nil
		if t.controls {
			t.ready = []byte{charInterrupt}
			return
		}
		t.interrupt()
	case charEnd:
		t.endOfInput()
	case charErase, charDelete:
		t.erase(1)
	case charEraseLine:
		t.erase(len(t.line))
	case charEraseWord:
		trimmed := bytes.TrimRight(t.line, " \t")
		t.erase(utf8.RuneCount(t.line[bytes.LastIndexAny(trimmed, " \t")+1:]))
	default:
		t.line = append(t.line, b)
		if b < ' ' && b != '\t' {
			t.echo("^" + string(rune(b+'@')))
			return
		}
		t.echo(string([]byte{b}))
	}
}

// endOfInput is ^D: it hands over what was typed, or, when that is nothing,
// the end of the input.
func (t *terminal) endOfInput() {
	switch {
	case len(t.line) > 0:
		t.ready, t.line = append(t.ready, t.line...), nil
	case t.controls:
		t.ready = append(t.ready, charEnd)
	default:
		t.ended = true
	}
}

// erase takes back the last characters of the line, on the screen too.
func (t *terminal) erase(count int) {
	for ; count > 0 && len(t.line) > 0; count-- {
		last, size := utf8.DecodeLastRune(t.line)
		t.line = t.line[:len(t.line)-size]
		t.echo("\b \b")
		if last < ' ' { // it was shown as two
			t.echo("\b \b")
		}
	}
}

func (t *terminal) echo(text string) { _ = t.send([]byte(text)) }

// Write shows a guest's output; lines end with CR LF.
func (t *terminal) Write(p []byte) (int, error) {
	if err := t.send(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *terminal) send(p []byte) error {
	if t.out == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.out.Write(p)
	return err
}
