package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// smallGuest answers HTTP without package net/http.
const smallGuest = `package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
)

func main() {
	l, err := net.FileListener(os.NewFile(3, "http"))
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		switch line, err := r.ReadString('\n'); {
		case err != nil:
			return
		case line == "\r\n":
			body := "EDIT"
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}
}
`

// httpGuest does the same with it.
const httpGuest = `package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.FileListener(os.NewFile(3, "http"))
	if err != nil {
		panic(err)
	}
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "EDIT") }))
}
`

// BenchmarkDev measures from the moment an edited source is on disk to the first
// answer of the new program at the forwarded address of "wherry dev", which
// sees the change, builds, pushes and rolls out by itself.
func BenchmarkDev(b *testing.B) {
	if _, err := exec.LookPath("go"); err != nil {
		b.Skip("no Go toolchain:", err)
	}
	c := clustertest.New(b)
	for _, guest := range []struct{ name, source string }{{"small", smallGuest}, {"nethttp", httpGuest}} {
		for _, engine := range []struct{ name, flag string }{{"interpreter", "--compile=false"}, {"compiler", "--compile"}} {
			b.Run("guest="+guest.name+"/engine="+engine.name, func(b *testing.B) { editToServed(b, c, guest.name, guest.source, engine.flag) })
		}
	}
}

func editToServed(b *testing.B, c *clustertest.Cluster, name, source, flag string) {
	dir := filepath.Join(b.TempDir(), name)
	edit := func(word string) {
		b.Helper()
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(strings.ReplaceAll(source, "EDIT", word)), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+name+"\n\ngo 1.24\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	edit("first")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	var said lockedBuffer
	dev := c.Command("dev", dir, "--address", address, flag)
	dev.Env = append(dev.Env, goCaches(b)...)
	dev.Stdout, dev.Stderr = &said, &said
	if err := dev.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = dev.Process.Signal(os.Interrupt)
		_ = dev.Wait()
	}()
	await := func(word string) {
		b.Helper()
		for patience := time.Now().Add(clustertest.Patience); ; time.Sleep(5 * time.Millisecond) {
			answer, err := ask(fresh, "http://"+address)
			if err == nil && answer == word {
				return
			}
			if time.Now().After(patience) {
				b.Fatalf("got %q, %v, want %q; dev says\n%s", answer, err, word, said.String())
			}
		}
	}
	await("first")
	round := 0
	for b.Loop() {
		round++
		word := fmt.Sprintf("edit %d", round)
		edit(word)
		await(word)
	}
}

// goCaches hands the Go toolchain's caches on to a command with another home:
// nobody edits with an empty one.
func goCaches(b *testing.B) []string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		b.Fatal(err)
	}
	cache, modules, _ := strings.Cut(string(out), "\n")
	return []string{"GOCACHE=" + cache, "GOMODCACHE=" + strings.TrimSpace(modules)}
}

// lockedBuffer is written by a process and read by a test.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*lockedBuffer)(nil)

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
