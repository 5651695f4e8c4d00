package apiserver_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/net/websocket"

	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
)

// socket opens a watch as browsers do.
func (c *cluster) socket(path string) (*websocket.Conn, error) {
	config, err := websocket.NewConfig("wss"+strings.TrimPrefix(c.url, "https")+path, c.url)
	must(c.t, err)
	config.TlsConfig = c.admin.Clone()
	config.TlsConfig.NextProtos = []string{"http/1.1"}
	return config.DialContext(c.t.Context())
}

func TestWatchOverWebSocket(t *testing.T) {
	c := newCluster(t, nil)
	socket, err := c.socket(maps + "?watch=true")
	must(t, err)
	defer socket.Close()
	for _, name := range []string{"a", "b"} {
		c.createMap(name)
		var message string // one event is one message, of text
		must(t, websocket.Message.Receive(socket, &message))
		var event metav1.WatchEvent
		must(t, json.Unmarshal([]byte(message), &event))
		if event.Type != "ADDED" || !strings.Contains(string(event.Object.Raw), `"name":"`+name+`"`) {
			t.Errorf("got %s", message)
		}
	}
}

// TestWatchOverWebSocketEnds: by the end of its time, by the client, and by
// the server, which does not wait for the client.
func TestWatchOverWebSocketEnds(t *testing.T) {
	c := newCluster(t, nil)
	short, err := c.socket(maps + "?watch=true&timeoutSeconds=1")
	must(t, err)
	defer short.Close()
	long, err := c.socket(maps + "?watch=true")
	must(t, err)
	defer long.Close()
	left, err := c.socket(maps + "?watch=true")
	must(t, err)
	must(t, left.Close())
	if _, err := io.Copy(io.Discard, short); err != nil {
		t.Errorf("the one that is over broke: %v", err)
	}
	c.stop()
	if _, err := io.Copy(io.Discard, long); err != nil {
		t.Errorf("the one that the server ended broke: %v", err)
	}
}

func TestWatchOverWebSocketIsRefusedAsOthersAre(t *testing.T) {
	c := newCluster(t, func(config *apiserver.Config) { config.Authorizer = auth.Any() })
	if socket, err := c.socket(maps + "?watch=true"); err == nil {
		socket.Close()
		t.Error("who may not watch got a socket")
	}
}
