package console

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlainOutputHasNoEscapes(t *testing.T) {
	var out bytes.Buffer
	c := New(&out)
	c.Field("API server", "https://%s", "127.0.0.1:6443")
	c.Table([]string{"NAME", "STATE"}, [][]Cell{{{Text: "store"}, {"ok", Good}}, {{Text: "a-longer-name"}, {"failed", Bad}}})
	want := "API server  https://127.0.0.1:6443\n" +
		"NAME            STATE\n" +
		"store           ok\n" +
		"a-longer-name   failed\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestColours(t *testing.T) {
	var out bytes.Buffer
	c := &Console{out: &out, terminal: true, colour: true}
	c.Table([]string{"A", "B"}, [][]Cell{{{"x", Good}, {"y", Plain}}})
	if got, want := out.String(), "\x1b[2mA   \x1b[0m\x1b[2mB\x1b[0m\n\x1b[32mx   \x1b[0my\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProgressIsSilentWhenItIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := (&Console{out: &out, terminal: true}).Progress("compile")
		time.Sleep(patience / 2)
		p.Done()
		if out.Len() != 0 {
			t.Errorf("wrote %q", out.String())
		}
	})
}

func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			c := &Console{out: &out, terminal: terminal}
			p := c.Progress("compile")
			time.Sleep(patience + time.Second)
			p.Update("compile %d of 2", 1)
			time.Sleep(time.Second)
			c.Printf("a line between")
			time.Sleep(time.Second)
			if took := p.Done(); took < 3*time.Second {
				t.Errorf("took %v", took)
			}
			got := out.String()
			if !terminal {
				if want := "compile ...\na line between\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				return
			}
			for _, want := range []string{"\r\x1b[Ka line between\n", "compile 1 of 2 1.9 s", "compile 0.5 s"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q lacks %q", got, want)
				}
			}
			if !strings.HasSuffix(got, "\r\x1b[K") {
				t.Errorf("the line stays: %q", got[max(0, len(got)-60):])
			}
		})
	}
}

func TestPadNeverJoinsColumns(t *testing.T) {
	for text, want := range map[string]string{"": "    ", "ä": "ä   ", "four": "four ", "longer": "longer "} {
		if got := Pad(text, 4); got != want {
			t.Errorf("Pad(%q) = %q, want %q", text, got, want)
		}
	}
}
