package controller

import (
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

func TestPaceGrowsWithTheService(t *testing.T) {
	key, now := api.Services.Key("default", "web"), time.Unix(1000, 0)
	for _, tt := range []struct {
		endpoints int
		want      time.Duration
	}{
		{0, 0}, {paceFree, 0}, {1000, 50 * time.Millisecond}, {10000, 500 * time.Millisecond}, {1000000, paceMost},
	} {
		p := pace{each: paceEach}
		if got := p.wait(key, now); got != 0 {
			t.Errorf("the first pass over %d endpoints waits %v", tt.endpoints, got)
		}
		p.passed(key, tt.endpoints, now)
		if got := p.wait(key, now); got != tt.want {
			t.Errorf("after a pass over %d endpoints: %v, want %v", tt.endpoints, got, tt.want)
		}
		if got := p.wait(api.Services.Key("default", "other"), now); got != 0 {
			t.Errorf("another Service waits %v", got)
		}
		if got := p.wait(key, now.Add(tt.want)); got != 0 {
			t.Errorf("%d endpoints: still %v to wait when the time is up", tt.endpoints, got)
		}
		p.passed(key, 0, now)
		if len(p.next) != 0 {
			t.Errorf("%d endpoints: a Service that shrank is remembered", tt.endpoints)
		}
	}
}

func TestLatestIsTheNewerOne(t *testing.T) {
	key := api.ReplicaSets.Key("default", "web")
	object := func(uid string, revision int) api.Object {
		return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: strconv.Itoa(revision)}}
	}
	for _, tt := range []struct {
		name           string
		written, shown api.Object
		wantWritten    bool
	}{
		{"nothing written", nil, object("a", 5), false},
		{"informer is late", object("a", 7), object("a", 5), true},
		{"informer has it", object("a", 7), object("a", 7), false},
		{"informer is ahead", object("a", 7), object("a", 9), false},
		{"another object of that name", object("a", 7), object("b", 5), false},
		{"gone", object("a", 7), nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l latest
			if tt.written != nil {
				l.add(key, tt.written)
			}
			want := tt.shown
			if tt.wantWritten {
				want = tt.written
			}
			if got := l.of(key, tt.shown); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if remembered := len(l.written) == 1; remembered != tt.wantWritten {
				t.Errorf("remembered: %v, want %v", remembered, tt.wantWritten)
			}
		})
	}
}
