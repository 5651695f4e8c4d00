package recent

import (
	"strconv"
	"testing"
)

func TestValuesForgetWhatNobodyAsksFor(t *testing.T) {
	values := Values[int]{Limit: 10}
	if got := values.Keep([]byte("always"), 1); got != 1 {
		t.Fatalf("kept %d", got)
	}
	for i := range 100 {
		if got, ok := values.Get([]byte("always")); !ok || got != 1 {
			t.Fatalf("after %d others it is %d, %v", i, got, ok)
		}
		if got := values.Keep([]byte(strconv.Itoa(i)), i); got != i {
			t.Errorf("%d became %d", i, got)
		}
		if got := values.Keep([]byte(strconv.Itoa(i)), -1); got != i {
			t.Errorf("%d was replaced by %d", i, got)
		}
		if n := len(values.newer) + len(values.last); n > 2*values.Limit {
			t.Fatalf("%d values are kept", n)
		}
	}
	if got, ok := values.Get([]byte("5")); ok {
		t.Errorf("an old value is still there: %d", got)
	}
}
