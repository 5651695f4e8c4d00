package podlog

import (
	"bytes"
	"context"
	"io"
	"os"
)

// tail places each of files (oldest first) so that n lines follow, and
// returns the index of the one to begin with. Lines that are too long for one
// entry count as several, as in kubelet.
func tail(files []*os.File, n int64) (int, error) {
	for i := len(files) - 1; i >= 0; i-- {
		offset, found, err := backwards(files[i], n)
		if err != nil {
			return 0, err
		}
		if _, err := files[i].Seek(offset, io.SeekStart); err != nil {
			return 0, err
		}
		n -= found
		if n <= 0 || i == 0 {
			return i, nil
		}
	}
	return 0, nil
}

// backwards finds the offset after which n lines follow, or 0 and how many
// there are. An entry that is being written (no newline yet) is not counted.
func backwards(f *os.File, n int64) (offset, found int64, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return end, 0, err
	}
	const block = 16 << 10
	buf := make([]byte, block)
	for at := end; at > 0; {
		size := min(block, at)
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(buf[:size], '\n'); i >= 0; i = bytes.LastIndexByte(buf[:i], '\n') {
			// The newline before the n-th last line is the (n+1)-th from the end.
			if found == n {
				return at + int64(i) + 1, n, nil
			}
			found++
		}
	}
	return 0, found, nil
}

// LastLines returns the end of a run's log: at most lines lines and at most
// limit bytes. It is what terminationMessagePolicy FallbackToLogsOnError shows.
func (s *Store) LastLines(p Pod, container string, run int32, lines int64, limit int) string {
	var out bytes.Buffer
	err := s.Read(context.Background(), p, container, run, Options{TailLines: &lines}, &out)
	if err != nil {
		return ""
	}
	text := out.Bytes()
	if len(text) > limit {
		text = text[len(text)-limit:]
	}
	return string(text)
}
