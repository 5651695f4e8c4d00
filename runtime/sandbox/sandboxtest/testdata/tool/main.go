// Command tool is a guest that does one thing after another, as its arguments
// say, and tells what came of it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var keep [][]byte

func main() {
	for _, arg := range os.Args[1:] {
		verb, rest, _ := strings.Cut(arg, ":")
		if err := do(verb, rest); err != nil {
			fmt.Printf("%s: error: %v\n", arg, err)
		}
	}
}

func do(verb, rest string) error {
	a, b, _ := strings.Cut(rest, ",")
	switch verb {
	case "exit":
		code, _ := strconv.Atoi(rest)
		os.Exit(code)
	case "args":
		fmt.Println(strings.Join(os.Args, " "))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "pwd":
		dir, err := os.Getwd()
		fmt.Println(dir)
		return err
	case "say":
		fmt.Println(rest)
	case "complain":
		fmt.Fprintln(os.Stderr, rest)
	case "panic":
		panic(rest)
	case "trap":
		var nothing *[1 << 30]byte
		nothing[len(rest)+1<<29] = 1
	case "spin":
		for i := 0; ; i++ {
			keep = keep[:0]
		}
	case "sleep":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		return err
	case "forever":
		select {
		case <-time.After(1000 * time.Hour):
		}
	case "alloc":
		n, _ := strconv.Atoi(rest)
		for range n {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			keep = append(keep, block)
		}
		fmt.Println("allocated", n)
	case "echo":
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Println("heard", lines.Text())
		}
		return lines.Err()
	case "time":
		fmt.Println(time.Now().Unix())
	default:
		return files(verb, a, b)
	}
	return nil
}

func files(verb, a, b string) error {
	switch verb {
	case "cat":
		text, err := os.ReadFile(a)
		fmt.Printf("%s", text)
		return err
	case "write":
		return os.WriteFile(a, []byte(b), 0o644)
	case "append":
		f, err := os.OpenFile(a, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.WriteString(f, b)
		return err
	case "mkdir":
		return os.MkdirAll(a, 0o755)
	case "rm":
		return os.Remove(a)
	case "mv":
		return os.Rename(a, b)
	case "ln":
		return os.Symlink(b, a)
	case "hardlink":
		return os.Link(b, a)
	case "readlink":
		text, err := os.Readlink(a)
		fmt.Println(text)
		return err
	case "truncate":
		n, _ := strconv.ParseInt(b, 10, 64)
		return os.Truncate(a, n)
	case "touch":
		at := time.Unix(1_000_000_000, 0)
		return os.Chtimes(a, at, at)
	case "stat":
		info, err := os.Stat(a)
		if err == nil {
			fmt.Println(info.Name(), info.Size(), info.IsDir(), info.ModTime().Unix())
		}
		return err
	case "ls":
		list, err := os.ReadDir(a)
		for _, e := range list {
			fmt.Println(e.Name(), e.IsDir())
		}
		return err
	case "seek":
		return seek(a)
	case "walk":
		return filepath.Walk(a, func(path string, _ os.FileInfo, err error) error {
			fmt.Println(path)
			return err
		})
	}
	return fmt.Errorf("unknown verb %q", verb)
}

func seek(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("world"), 6); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte("hello "), 0); err != nil {
		return err
	}
	if _, err := f.Seek(-5, io.SeekEnd); err != nil {
		return err
	}
	tail, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	at, err := f.Seek(0, io.SeekCurrent)
	fmt.Println(string(tail), at)
	if err != nil {
		return err
	}
	return f.Sync()
}
