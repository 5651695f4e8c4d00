package audit

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogAppendsAndRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	open := func() *Log {
		t.Helper()
		l, err := Open(path, LevelMetadata, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	l.Write(Event{AuditID: "1", Verb: "get"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	l.Write(Event{AuditID: "2"})
	l.written = maxFile
	l.Write(Event{AuditID: "3"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	read := func(path string) []string {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(data)), "\n")
	}
	old, now := read(path+".1"), read(path)
	if len(old) != 2 || len(now) != 1 || !strings.Contains(now[0], `"auditID":"3"`) {
		t.Errorf("old %q, now %q", old, now)
	}
	var e Event
	if err := json.Unmarshal([]byte(old[0]), &e); err != nil || e.APIVersion != "audit.k8s.io/v1" || e.Kind != "Event" || e.Verb != "get" {
		t.Errorf("%+v, %v", e, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want nobody else to read it", info, err)
	}
}

// A full disk is told of once; the server goes on.
func TestLogThatCannotBeWritten(t *testing.T) {
	var told strings.Builder
	l, err := Open(filepath.Join(t.TempDir(), "audit.log"), LevelMetadata, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	l.Write(Event{})
	l.Write(Event{})
	if n := strings.Count(told.String(), "cannot be written"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestParseLevel(t *testing.T) {
	for text, want := range map[string]Level{"": LevelMetadata, "None": LevelNone, "Metadata": LevelMetadata, "Request": LevelRequest} {
		if got, err := ParseLevel(text); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := ParseLevel("Everything"); err == nil {
		t.Error("want an unknown level refused")
	}
}
