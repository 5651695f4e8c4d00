package stream

import (
	"net/http"

	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// openWebSocket upgrades to a WebSocket of five channels, the first byte of
// each message being the channel's number.
func openWebSocket(w http.ResponseWriter, r *http.Request, o Options) (*channel, error) {
	channels := make([]wsstream.ChannelType, 5) // all ignored
	for i, wanted := range map[int]bool{remotecommand.StreamStdOut: o.Stdout, remotecommand.StreamStdErr: o.Stderr, remotecommand.StreamErr: true} {
		if wanted {
			channels[i] = wsstream.WriteChannel
		}
	}
	if o.Stdin {
		channels[remotecommand.StreamStdIn] = wsstream.ReadChannel
	}
	channels[remotecommand.StreamResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels},
		remotecommand.StreamProtocolV4Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(idle)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		return nil, err
	}
	size := &window{}
	c := &channel{conn: conn, errors: streams[remotecommand.StreamErr], session: Session{TTY: o.TTY, Window: size.size}, window: size}
	first := streams[remotecommand.StreamErr]
	if o.Stderr {
		c.session.Stderr = streams[remotecommand.StreamStdErr]
		first = streams[remotecommand.StreamStdErr]
	}
	if o.Stdout {
		c.session.Stdout = streams[remotecommand.StreamStdOut]
		first = streams[remotecommand.StreamStdOut]
	}
	if o.Stdin {
		c.session.Stdin = streams[remotecommand.StreamStdIn]
	}
	c.gone = func() { size.follow(streams[remotecommand.StreamResize]) } // it ends with the connection
	if _, err := first.Write(nil); err != nil {                          // tells the client that we are there
		conn.Close()
		return nil, err
	}
	return c, nil
}
