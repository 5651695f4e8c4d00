// Command web is a plain net/http server on the first preopened socket.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "nonblock" { // for hosts whose listeners block, and with them a program of one thread
		if err := syscall.SetNonblock(3, true); err != nil {
			fmt.Fprintln(os.Stderr, "nonblock:", err)
		}
	}
	f := os.NewFile(3, "http")
	l, err := net.FileListener(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(3)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s\n", r.URL.Path)
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.URL.Query().Get("for"))
		time.Sleep(d)
		fmt.Fprintln(w, "done")
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	http.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("0123456789abcdef", 1<<16))
	})
	http.HandleFunc("/spin", func(w http.ResponseWriter, r *http.Request) {
		for {
		}
	})
	fmt.Println("serving")
	err = http.Serve(l, nil)
	fmt.Println("stopped:", err)
	if len(os.Args) > 1 && os.Args[1] == "stubborn" {
		time.Sleep(1000 * time.Hour)
	}
}
