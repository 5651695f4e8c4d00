package memconn

import "time"

// State is the readiness of one end.
type State struct {
	Unread   int  // bytes that can be read now
	EOF      bool // nothing more will come after them
	Room     int  // bytes that can be written now
	Broken   bool // writing fails
	Reset    bool // both directions are torn down
	Fresh    bool // this end has neither read nor written anything
	Answered bool // the last thing this end did was to write
	Unsent   int  // bytes written that the other end has not read
	Changed  time.Time
}

// State returns the readiness of this end.
func (c *Conn) State() State {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	return c.state()
}

// StateToPoll is State without what only a drain asks for: Unsent.
func (c *Conn) StateToPoll() State {
	c.pair.mu.Lock()
	defer c.pair.mu.Unlock()
	return c.stateToPoll()
}

func (c *Conn) state() State {
	s := c.stateToPoll()
	if c.kernel != nil {
		s.Unsent = c.kernel.unsent()
	}
	return s
}

func (c *Conn) stateToPoll() State {
	room := max(0, c.out.most()-c.out.n)
	unread := c.in.n
	if c.kernel != nil {
		if !c.kernel.hasRoom() {
			room = 0
		}
		if !c.in.ended && !c.in.refused && !c.pair.reset {
			more, err := c.kernel.unread()
			_ = c.note(err)
			unread += more
		}
	} else {
		c.out.stuck = c.out.stuck || room == 0
	}
	return State{
		Unread: unread, EOF: c.in.ended || c.in.refused,
		Room: room, Broken: c.out.ended || c.out.refused,
		Reset: c.pair.reset, Unsent: c.out.n,
		Fresh:    c.in.taken == 0 && c.out.put == 0,
		Answered: c.lastPut, Changed: c.changed,
	}
}
