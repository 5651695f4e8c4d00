package h2

import (
	"net/http"

	"golang.org/x/net/http2"
)

// take acts on one frame.
func (c *conn) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.takeHeaders(f)
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.SettingsFrame:
		return c.takeSettings(f)
	case *http2.WindowUpdateFrame:
		return c.takeWindow(f)
	case *http2.RSTStreamFrame:
		return c.takeReset(f)
	case *http2.PingFrame:
		return c.takePing(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol) // clients do not push
	}
	return nil // what is unknown is ignored
}

func (c *conn) takeHeaders(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if f.HasPriority() && f.Priority.StreamDep == id {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	c.mu.Lock()
	st, newest := c.streams[id], c.last
	c.mu.Unlock()
	switch {
	case id%2 == 0:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case st != nil:
		return c.takeTrailers(st, f)
	case id <= newest:
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	}
	st, err := c.newStream(f)
	if err != nil {
		return err
	}
	if !c.open(st) {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	c.starting = append(c.starting, st)
	if f.StreamEnded() {
		c.start()
	}
	return nil
}

// open makes a stream one of the connection's, if there is room.
func (c *conn) open(st *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return false // the client was told where the last one is
	}
	c.last = st.id
	if len(c.streams) >= maxStreams || c.running >= maxHandlers {
		return false
	}
	if len(c.streams) == 0 {
		c.tell(http.StateActive)
	}
	st.window = c.initial
	c.streams[st.id] = st
	c.running++
	return true
}

// takeTrailers takes the fields after a body.
func (c *conn) takeTrailers(st *stream, f *http2.MetaHeadersFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case st.heard || st.dead != nil:
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed}
	case !f.StreamEnded() || len(f.PseudoFields()) > 0 || f.Truncated:
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	}
	st.body.trailers = f.RegularFields()
	return st.hear()
}

func (c *conn) takeData(f *http2.DataFrame) error {
	id, size, data := f.StreamID, int(f.Length), f.Data()
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.inflow {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	c.inflow -= size
	st := c.streams[id]
	wrong := http2.ErrCodeNo
	switch {
	case st == nil && c.known(id) != nil:
		return c.known(id)
	case st == nil || st.heard:
		wrong = http2.ErrCodeStreamClosed
	case size > st.inflow:
		wrong = http2.ErrCodeFlowControl
	case st.body.declared >= 0 && st.body.received+int64(len(data)) > st.body.declared:
		wrong = http2.ErrCodeProtocol
	}
	if wrong != http2.ErrCodeNo {
		c.giveBack(size)
		return http2.StreamError{StreamID: id, Code: wrong}
	}
	st.inflow -= size
	padding := size - len(data)
	c.giveBack(padding)
	st.giveBack(padding)
	st.body.add(data)
	if f.StreamEnded() {
		if err := st.hear(); err != nil {
			return err
		}
		c.start()
	}
	return c.control()
}

// giveBack lets the client send more on the connection. Windows are moved in
// large steps.
func (c *conn) giveBack(n int) {
	if c.owed += n; c.owed >= connWindow/4 {
		c.putWindow(0, c.owed)
		c.inflow += c.owed
		c.owed = 0
	}
}

func (c *conn) takeSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.fields.SetMaxDynamicTableSize(min(s.Val, tableSize))
		case http2.SettingMaxFrameSize:
			c.frameSize = min(int(s.Val), ourFrame)
		case http2.SettingInitialWindowSize:
			return c.resize(int(s.Val))
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.putSettingsAck()
	return c.control()
}

// resize changes the windows of all streams, also of those that are open.
func (c *conn) resize(initial int) error {
	by := initial - c.initial
	c.initial = initial
	for _, st := range c.streams {
		if st.window += by; st.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		st.moved.Signal()
	}
	return nil
}

func (c *conn) takeWindow(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := int(f.Increment)
	if f.StreamID == 0 {
		if c.window += by; c.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.wake()
		return nil
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return c.known(f.StreamID)
	}
	if st.window += by; st.window > maxWindow {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	st.moved.Signal()
	return nil
}

// known refuses frames for streams that never were.
func (c *conn) known(id uint32) error {
	if id%2 == 0 || id > c.last && !c.left {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

func (c *conn) takeReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[f.StreamID]
	if st == nil {
		return c.known(f.StreamID)
	}
	st.die(http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode})
	return c.control()
}

func (c *conn) takePing(f *http2.PingFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putPingAck(f.Data)
	return c.control()
}
