package memconn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Splice copies between a kernel connection and an end in memory until both
// directions have ended, passing on half-closes, and closes both.
func Splice(kernel net.Conn, mem *Conn) {
	// When the guest has closed for good, nobody reads what the kernel side may
	// still send: the pump that waits for it is called off. The other pump
	// flushes what the guest wrote before.
	mem.onPeerClosed(func() { _ = kernel.SetReadDeadline(time.Unix(1, 0)) })
	var wait sync.WaitGroup
	wait.Go(func() {
		readErr, _ := pump(mem, kernel)
		if readErr != nil && !errors.Is(readErr, os.ErrDeadlineExceeded) && !errors.Is(readErr, net.ErrClosed) {
			mem.Abort()
		}
		_ = mem.CloseWrite()
	})
	readErr, writeErr := pump(kernel, mem)
	if readErr == nil && writeErr == nil {
		if half, ok := kernel.(interface{ CloseWrite() error }); ok {
			writeErr = half.CloseWrite()
		}
	}
	if readErr != nil || writeErr != nil {
		mem.Abort()
		_ = kernel.Close()
	}
	wait.Wait()
	_ = kernel.Close()
	_ = mem.Close()
}

// pump copies until the end of file or an error of either side. Its buffer
// starts small, because most connections are idle most of the time.
func pump(dst io.Writer, src io.Reader) (readErr, writeErr error) {
	buf := make([]byte, 4<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
		if n == len(buf) && n < MaxBuffer/2 {
			buf = make([]byte, 2*n)
		}
	}
}
