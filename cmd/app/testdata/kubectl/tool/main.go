// Command tool is kubectl of another minor version than the one that Wherry has
// built in, for the scripts that run with it.
package main

import (
	"os"

	"k8s.io/kubectl/pkg/cmd"
)

func main() {
	if cmd.NewDefaultKubectlCommand().Execute() != nil {
		os.Exit(1) // kubectl has said why
	}
}
