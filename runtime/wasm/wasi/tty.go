package wasi

// WASI has no ioctl, so there is a call of our own for what TIOCGWINSZ tells:
// programs that fill a screen must know how large it is, also after it changed.

// ttySize serves wherry_tty_size: (*size), where the columns come to be in the
// lower 16 bits and the rows in the upper ones; both are 0 when nobody knows.
// ENOTTY: the streams are no terminal.
func ttySize(g *Guest, m memory, p []uint64) Errno {
	if g.window == nil {
		return ENOTTY
	}
	columns, rows := g.window()
	return m.put32(p[0], uint64(columns)|uint64(rows)<<16)
}
