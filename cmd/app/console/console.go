// Package console writes for people: aligned lines, tables, colours and a sign
// of life while something takes long. On anything but a terminal, and where
// NO_COLOR is set (https://no-color.org), it writes plain text; what it writes
// never depends on colours to be understood.
package console

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Console is one output. Its methods may be called from several goroutines;
// each writes whole lines.
type Console struct {
	out      io.Writer
	terminal bool // lines can be written over
	colour   bool

	mu   sync.Mutex
	live bool // a progress line stands at the cursor
}

// New returns a Console on out. It is a terminal's when out is one and TERM is
// not "dumb".
func New(out io.Writer) *Console {
	file, ok := out.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
	return &Console{out: out, terminal: terminal, colour: terminal && os.Getenv("NO_COLOR") == ""}
}

// Style is a colour by meaning.
type Style string

// The styles. Their values are the parameters of the terminal's SGR sequence.
const (
	Plain Style = ""
	Good  Style = "32"
	Warn  Style = "33"
	Bad   Style = "31"
	Faint Style = "2"
	Bold  Style = "1"
)

// palette tells apart things that have no meaning of their own, such as pods.
var palette = [...]Style{"36", "35", "34", "32", "33", "96", "95", "94"}

// Hue returns a style for the i-th of many things.
func Hue(i int) Style { return palette[((i%len(palette))+len(palette))%len(palette)] }

// Terminal says whether a person watches: then lines may be replaced.
func (c *Console) Terminal() bool { return c.terminal }

// Paint returns text in a style, or as it is where there are no colours.
func (c *Console) Paint(style Style, text string) string {
	if !c.colour || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Printf writes a line.
func (c *Console) Printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	fmt.Fprintf(c.out, format+"\n", args...)
}

// labelWidth is how wide the names of fields are: the longest of them, "Kubeconfig",
// and the space behind it.
const labelWidth = 12

// Field writes "label  value" with the values of successive fields aligned.
func (c *Console) Field(label, format string, args ...any) {
	c.Printf("%s%s", c.Paint(Bold, Pad(label, labelWidth)), fmt.Sprintf(format, args...))
}

// clear removes the progress line. The caller holds mu.
func (c *Console) clear() {
	if c.live {
		io.WriteString(c.out, "\r\x1b[K")
		c.live = false
	}
}

// Pad fills text with spaces up to a width in characters, and adds one where it
// is too long, so that columns never touch.
func Pad(text string, width int) string {
	if n := width - utf8.RuneCountInString(text); n > 0 {
		return text + strings.Repeat(" ", n)
	}
	return text + " "
}

// Cell is one field of a table, with its meaning.
type Cell struct {
	Text  string
	Style Style
}

// Table writes rows under headings, each column as wide as its widest cell.
func (c *Console) Table(headings []string, rows [][]Cell) {
	widths := make([]int, len(headings))
	for i, heading := range headings {
		widths[i] = utf8.RuneCountInString(heading)
	}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.Text))
		}
	}
	const gap = 3
	line := func(cells []Cell) string {
		var b strings.Builder
		for i, cell := range cells {
			text := cell.Text
			if i < len(cells)-1 {
				text = Pad(text, widths[i]+gap)
			}
			b.WriteString(c.Paint(cell.Style, text))
		}
		return strings.TrimRight(b.String(), " ")
	}
	head := make([]Cell, len(headings))
	for i, heading := range headings {
		head[i] = Cell{Text: heading, Style: Faint}
	}
	c.Printf("%s", line(head))
	for _, row := range rows {
		c.Printf("%s", line(row))
	}
}
