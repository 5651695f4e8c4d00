package apiserver

import (
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestFramesAreSharedByWatches(t *testing.T) {
	pod := &corev1.Pod{}
	key := frameKey{pod, watch.Added, "application/json"}
	var f frames
	first := f.open()
	f.put(key, []byte("alone"))
	if f.get(key) != nil {
		t.Error("a single watch keeps frames that nobody else reads")
	}
	second := f.open()
	f.put(key, []byte("added"))
	if got := string(f.get(key)); got != "added" {
		t.Errorf("the other watch gets %q", got)
	}
	for _, other := range []frameKey{
		{pod, watch.Modified, "application/json"}, {pod, watch.Added, "application/cbor"}, {&corev1.Pod{}, watch.Added, "application/json"},
	} {
		if got := f.get(other); got != nil {
			t.Errorf("%v %s gets %q", other.kind, other.mediaType, got)
		}
	}
	second()
	if f.get(key) != nil || f.bytes != 0 || len(f.order) != 0 {
		t.Error("frames outlive the second watch")
	}
	first()
}

func TestFramesAreBounded(t *testing.T) {
	for _, tt := range []struct{ size, kept int }{{1, maxFrames}, {maxFrameBytes / 4, 4}, {maxFrameBytes, 1}, {maxFrameBytes + 1, 0}} {
		t.Run(strconv.Itoa(tt.size), func(t *testing.T) {
			var f frames
			defer f.open()()
			defer f.open()()
			frame := make([]byte, tt.size)
			var last frameKey
			for range maxFrames + 5 {
				last = frameKey{&corev1.Pod{}, watch.Added, "application/json"}
				f.put(last, frame)
				f.put(last, frame)
			}
			if len(f.encoded) != tt.kept || len(f.order) != tt.kept || f.bytes != tt.kept*tt.size {
				t.Errorf("%d frames, %d in order, %d bytes; want %d frames", len(f.encoded), len(f.order), f.bytes, tt.kept)
			}
			if newest := f.get(last) != nil; newest != (tt.kept > 0) {
				t.Errorf("the newest frame is there: %v", newest)
			}
		})
	}
}
