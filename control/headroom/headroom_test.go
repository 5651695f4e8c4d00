package headroom

import "testing"

func TestPercentFalls(t *testing.T) {
	for _, c := range []struct {
		live uint64 // MiB
		want int
	}{{0, 800}, {6, 800}, {12, 400}, {24, 200}, {48, 100}, {49, 100}, {128, 100}, {130, 95}, {256, 70}, {512, 50}, {1024, 35}, {8192, 10}} {
		if got := percent(c.live << 20); got != c.want {
			t.Errorf("%d MiB: %d %%, want %d %%", c.live, got, c.want)
		}
	}
}
