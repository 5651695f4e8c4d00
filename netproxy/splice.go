package netproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// A direction begins with a small buffer, since most connections carry small
// requests and wait between them, and takes a large one as long as reads fill
// it. After longStream bytes between two sockets the kernel takes over (splice
// on Linux), which needs less CPU for bulk and more for small requests.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
	longStream  = 1 << 20
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// splice copies both ways until both directions have ended. The end of one
// direction is passed on (half-close); a failure ends both, as a reset.
func splice(client, server net.Conn) {
	var answered sync.WaitGroup
	answered.Go(func() { pass(client, server) })
	pass(server, client)
	answered.Wait()
}

// pass copies from src to dst, then ends dst's input.
func pass(dst, src net.Conn) {
	err := copyBytes(dst, src)
	if err == nil {
		err = closeWrite(dst)
	}
	if err != nil && !errors.Is(err, errWrite) {
		// src broke: dst can be told only by a reset.
		reset(dst)
		reset(src)
		_ = dst.Close()
		_ = src.Close()
	}
	// dst that takes no more bytes may still have sent an answer ("too
	// large"): the other direction delivers it and finds the end by itself.
}

// errWrite tells failures to write from failures to read.
var errWrite = errors.New("write")

type writeCloser interface{ CloseWrite() error }

// closeWrite ends the stream towards c. A peer that is gone already is no
// failure of the other direction.
func closeWrite(c net.Conn) error {
	if w, ok := c.(writeCloser); ok {
		_ = w.CloseWrite()
		return nil
	}
	return errors.ErrUnsupported
}

// copyBytes copies until the end of src, which gives nil.
func copyBytes(dst io.Writer, src io.Reader) error {
	total := 0
	for {
		n, err := copySmall(dst, src)
		total += n
		if err == nil {
			n, err = copyLarge(dst, src)
			total += n
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if total >= longStream && bothTCP(dst, src) {
			return copyLong(dst, src)
		}
	}
}

// copyLong leaves the rest of a stream to the kernel, which does not say which
// side failed: a broken pipe is dst's, anything else is taken as src's.
func copyLong(dst io.Writer, src io.Reader) error {
	_, err := io.Copy(dst, src)
	if errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return err
}

func bothTCP(dst io.Writer, src io.Reader) bool {
	_, out := dst.(*net.TCPConn)
	_, in := src.(*net.TCPConn)
	return out && in
}

// copySmall copies until a read fills the small buffer (nil) or fails.
func copySmall(dst io.Writer, src io.Reader) (int, error) {
	buf := smallBuffers.Get().(*[smallBuffer]byte)
	defer smallBuffers.Put(buf)
	total := 0
	for {
		n, err := step(dst, src, buf[:])
		total += n
		if err != nil || n == len(buf) {
			return total, err
		}
	}
}

// copyLarge copies until a read would have fitted into the small buffer (nil),
// until the stream is a long one (nil) or fails.
func copyLarge(dst io.Writer, src io.Reader) (int, error) {
	buf := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(buf)
	total := 0
	for {
		n, err := step(dst, src, buf[:])
		total += n
		if err != nil || n <= smallBuffer || total >= longStream {
			return total, err
		}
	}
}

// step is one read and its write.
func step(dst io.Writer, src io.Reader, buf []byte) (int, error) {
	n, err := src.Read(buf)
	if n > 0 {
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return n, fmt.Errorf("%w: %w", errWrite, werr)
		}
	}
	return n, err
}
