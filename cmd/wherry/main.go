// Command wherry is the whole of Wherry: server, node and tools.
package main

import (
	"os"

	"wherry.dev/wherry/cmd/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], app.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
