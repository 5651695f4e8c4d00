package natskv

import (
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

func BenchmarkWrites(b *testing.B) { storetest.BenchmarkWrites(b, place) }

// BenchmarkOpenEmpty is the start in an empty directory, until a store over it
// is ready, and the end.
func BenchmarkOpenEmpty(b *testing.B) {
	for b.Loop() {
		_, stop := storetest.Start(b, place(b), store.Options{})
		stop()
	}
}

// BenchmarkRestart is the start with 100,000 objects of 1 KiB.
func BenchmarkRestart(b *testing.B) {
	const objects = 100_000
	dir := b.TempDir()
	at := func(cfg Config) storetest.Place {
		return func(t testing.TB) (store.Log, func()) { return run(t, cfg) }
	}
	s, stop := storetest.Start(b, at(Config{Dir: dir, Unsynced: true}), store.Options{})
	storetest.Fill(b, s, objects, 1024)
	stop()
	for b.Loop() {
		s, stop := storetest.Start(b, at(Config{Dir: dir}), store.Options{})
		page, err := s.List(b.Context(), "fill/", store.ListOptions{Limit: 1})
		if err != nil || page.Remaining != objects-1 {
			b.Fatalf("%+v, %v", page, err)
		}
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}
