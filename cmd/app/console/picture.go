package console

import (
	"bytes"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Sequences of xterm and its kin. The second screen has no history: what was
// on the terminal before is there again afterwards.
const (
	secondScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // without a cursor, and long lines are cut
	firstScreen  = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home         = "\x1b[H"
	eraseLine    = "\x1b[K" // from the cursor on
	eraseBelow   = "\x1b[J"
)

// Picture is the whole of a terminal, drawn again and again in place.
type Picture struct {
	console *Console
	last    string
}

// Picture takes the terminal. The caller must call Close.
func (c *Console) Picture() *Picture {
	io.WriteString(c.out, secondScreen)
	return &Picture{console: c}
}

// Rows is the terminal's height in lines, which may change.
func (p *Picture) Rows() int {
	if file, ok := p.console.out.(*os.File); ok {
		if _, rows, err := term.GetSize(int(file.Fd())); err == nil && rows > 0 {
			return rows
		}
	}
	return 24
}

// Draw shows what paint writes instead of what was shown before. It is one
// write of whole lines, so nothing flickers.
func (p *Picture) Draw(paint func(*Console)) {
	var page bytes.Buffer
	paint(&Console{out: &page, colour: p.console.colour})
	p.last = page.String()
	lines := strings.Split(strings.TrimSuffix(p.last, "\n"), "\n")
	rows := p.Rows()
	lines = lines[:min(len(lines), rows)]
	drawn := home + eraseLine + strings.Join(lines, "\r\n"+eraseLine)
	if len(lines) < rows {
		drawn += "\r\n" + eraseBelow
	}
	io.WriteString(p.console.out, drawn)
}

// Close gives the terminal back, with the last picture on it.
func (p *Picture) Close() {
	io.WriteString(p.console.out, firstScreen+p.last)
}
