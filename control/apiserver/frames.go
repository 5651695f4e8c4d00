package apiserver

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

const (
	maxFrames     = 512
	maxFrameBytes = 8 << 20
)

// frameKey names an event in one encoding. Objects are shared and immutable,
// so that the pointer is the identity.
type frameKey struct {
	object    api.Object
	kind      watch.EventType
	mediaType string
}

// frames keeps the newest watch events as they are sent, so that an event that
// many watches tell of is encoded once. It keeps nothing while there are fewer
// than two watches. It is safe for concurrent use.
type frames struct {
	mu      sync.Mutex
	watches int
	encoded map[frameKey][]byte
	order   []frameKey // oldest first
	bytes   int
}

// open notes one more watch; done notes its end.
func (f *frames) open() (done func()) {
	f.add(1)
	return func() { f.add(-1) }
}

func (f *frames) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watches += n; f.watches < 2 {
		f.encoded, f.order, f.bytes = nil, nil, 0
	}
}

// get returns the frame of an event, nil when there is none. It must not be
// changed.
func (f *frames) get(key frameKey) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.encoded[key]
}

// put keeps a frame, which must not be changed any more, in the place of the
// oldest ones.
func (f *frames) put(key frameKey, frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.encoded[key]; known || f.watches < 2 || len(frame) > maxFrameBytes {
		return
	}
	if f.encoded == nil {
		f.encoded = map[frameKey][]byte{}
	}
	f.encoded[key] = frame
	f.order = append(f.order, key)
	f.bytes += len(frame)
	for len(f.order) > maxFrames || f.bytes > maxFrameBytes {
		f.bytes -= len(f.encoded[f.order[0]])
		delete(f.encoded, f.order[0])
		f.order[0] = frameKey{}
		f.order = f.order[1:]
	}
}
