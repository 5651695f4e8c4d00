package controller

import (
	"testing"
	"time"

	"wherry.dev/wherry/control/api"
)

// A name that somebody else has freed stays free for a moment, so that who asks
// whether the pod is gone does not find its successor; what the set itself
// replaces comes back at once.
func TestStatefulSetLeavesNamesFree(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(2, asIs))
		b.settle()
		b.serve()
		b.serve()
		b.wantLine("db-0:v1* db-1:v1*")
		b.delete(api.Pods.Key("default", "db-0"), "") // on no node, it is gone at once
		b.settle()
		b.wantLine("db-1:v1*")
		b.pass(vacancyRest - time.Millisecond)
		b.wantLine("db-1:v1*")
		if s := b.set().Status; s.ReadyReplicas != 1 || s.Replicas != 1 {
			t.Errorf("status while the name is free: %+v", s)
		}
		b.pass(time.Millisecond)
		b.wantLine("db-0:v1 db-1:v1*")
		b.serve()
		b.setTag("v2")
		b.wantLine("db-0:v1* db-1:v2")
	})
}
