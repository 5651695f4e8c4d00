// Package tools holds the programs that every container has without its image
// bringing them: a small shell and the commands that people and kubectl expect
// in a container. They are one module in C, which runs as a guest like any
// other and sees what the container sees.
package tools

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"io"
	"path"
	"slices"
	"strings"
)

// module is src, compiled ("task tools").
//
//go:embed tools.wasm
var module []byte

// names are the commands of the module's table in src/main.c.
const names = "basename cat cp cut date dirname echo env false find grep head hostname id ls mkdir mv nslookup " +
	"printenv printf ps pwd readlink rm rmdir sh sleep sort stty tail tar tee test touch tr true uname uniq wc wget which whoami xargs ["

// Names are the commands, sorted as they are documented.
func Names() []string { return strings.Fields(names) }

// dirs are the directories under which a command may be asked for by its path.
const dirs = "/bin /usr/bin /sbin /usr/sbin /usr/local/bin"

// Has reports whether a command is one of the tools: "ls", "/bin/ls".
func Has(command string) bool {
	if dir := path.Dir(command); dir != "." && !slices.Contains(strings.Fields(dirs), dir) {
		return false
	}
	return slices.Contains(Names(), path.Base(command))
}

// Open returns the module. It is a command; its arguments are its own name, a
// note of the runtime, then the argv of the command. The note's first line is
// "tty" when the streams are a terminal's, the others are what ps prints.
func Open() io.Reader { return bytes.NewReader(module) }

// Sum is the digest by which the module is known: "sha256:…".
func Sum() string {
	sum := sha256.Sum256(module)
	return "sha256:" + hex.EncodeToString(sum[:])
}
