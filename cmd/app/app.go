// Package app is the wherry command: its subcommands, and the wiring of one
// process out of the packages of all wings. It is the only package that sees
// them all, and the only one that chooses implementations.
package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// Streams are what the command reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Main runs the command line and returns the exit code of the process. args
// do not include the program's name.
func Main(args []string, streams Streams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintln(streams.Err, "wherry:", advised(err))
	return 1
}

// advised adds what to do next to a failure that says only that nobody listens.
func advised(err error) string {
	text := err.Error()
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" && !strings.Contains(text, "running?") {
		text += " (is the cluster running? see \"wherry status\"; \"wherry up\" starts one)"
	}
	return text
}

// exitCode ends the process with a code when everything has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRoot(streams Streams) *cobra.Command {
	var at target
	root := &cobra.Command{
		Use:   "wherry",
		Short: "WebAssembly workloads with the Kubernetes API",
		Long: "Wherry runs WebAssembly workloads with the Kubernetes API.\n\n" +
			"  wherry up                         start a cluster here\n" +
			"  wherry push app.wasm hello:v1     give it a module\n" +
			"  wherry kubectl apply -f app.yaml  run it\n\n" +
			"Exit codes: 0 done; 1 it failed, or what was asked about is not well (status, doctor), and standard error\n" +
			"says why and what to do; run and kubectl exit as the guest and kubectl do.",
		Example: "  wherry up --demo\n  wherry new go hello && wherry dev hello",
		// Without it cobra shows the help for a command that it does not know,
		// and calls that a success.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; see \"wherry --help\"", args[0])
			}
			return cmd.Help()
		},
		Args:          cobra.ArbitraryArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		// Flags before a subcommand are the root's: "wherry --data-dir D kubectl ...".
		TraverseChildren: true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	at.bind(root.PersistentFlags())
	addGroup(root, "A cluster:", newUp(&at, streams), newServer(&at, streams), newNode(&at, streams), newToken(&at, streams), newKubeconfig(&at, streams),
		newReset(&at, streams))
	addGroup(root, "Guests:", newNew(streams), newDev(&at, streams), newPush(&at, streams), newRun(streams), newInspect(streams))
	addGroup(root, "What runs:", newKubectl(&at, streams), newLogs(&at, streams), newTop(&at, streams), newDashboard(&at, streams))
	addGroup(root, "How well it runs:", newStatus(&at, streams), newDoctor(&at, streams), newBench(&at, streams))
	root.AddCommand(newVersion(streams))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see \"%s --help\"", err, cmd.CommandPath())
	})
	for _, cmd := range root.Commands() {
		showUse(cmd)
	}
	addCompletion(root, &at)
	return root
}

// addGroup adds commands that the help shows together.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = title
	}
	root.AddCommand(commands...)
}

// showUse makes a command that has got too few or too many arguments say which
// ones it takes.
func showUse(cmd *cobra.Command) {
	if accepts := cmd.Args; accepts != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := accepts(cmd, args); err != nil {
				return fmt.Errorf("%w; usage: %s (see \"%s --help\")", err, cmd.UseLine(), cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		showUse(sub)
	}
}

// defaultDataDir is where a cluster lives when nothing else is said: the
// user's data directory, so that every command finds it from anywhere.
func defaultDataDir() string {
	if dir := os.Getenv("WHERRY_DATA_DIR"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".wherry"
	}
	switch runtime.GOOS {
	case "windows":
		if dir := os.Getenv("LocalAppData"); dir != "" {
			return filepath.Join(dir, "wherry")
		}
	case "darwin":
		return filepath.Join(home, "Library", "Application Support", "wherry")
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "wherry")
	}
	return filepath.Join(home, ".local", "share", "wherry")
}
