package app

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"wherry.dev/wherry/runtime/wasm"
)

func newInspect(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "inspect FILE.wasm",
		Short:   "Show what a module imports, exports and needs, and how it would be prepared",
		Example: "  wherry inspect app.wasm\n  wherry inspect app.wasm --output json",
		Args:    cobra.ExactArgs(1),
	}
	format := bindOutput(cmd.Flags())
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		code, err := os.ReadFile(args[0])
		if err != nil {
			return fmt.Errorf("inspect: %w", err)
		}
		report := wasm.Inspect(code)
		if *format == outputJSON {
			err = printJSON(streams.Out, report)
		} else {
			err = printReport(streams, args[0], report)
		}
		if err == nil && report.Refused != "" {
			return exitCode(1)
		}
		return err
	}
	return cmd
}

func printReport(streams Streams, file string, r wasm.Report) error {
	w := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+":\t"+format+"\n", args...) }
	row("File", "%s (%s)", file, size(r.Bytes))
	if r.Refused != "" {
		row("Runs", "no: %s", r.Refused)
		if r.Module == nil {
			return w.Flush()
		}
	} else {
		row("Runs", "as a %s", r.Kind)
	}
	m := r.Module
	if len(m.Languages) > 0 {
		row("Built from", "%s", strings.Join(m.Languages, ", "))
	}
	if m.HasMemory {
		row("Memory", "%s at the start, %s at most", size(int(m.MinMemoryPages)<<16), size(int(m.MaxMemoryPages)<<16))
	}
	row("Data", "%s in %d segments", size(int(m.DataBytes)), m.DataSegments)
	row("Functions", "%d", m.Functions)
	if p := r.Prepared; p != nil {
		row("Prepared", "%s of code with fuel counters (version %s)", size(p.Bytes), p.Version)
		if p.ImageBytes > 0 {
			row("Memory image", "%s, shared copy-on-write by all instances", size(p.ImageBytes))
		} else {
			row("Memory image", "none, each instance fills its own memory")
		}
	}
	if r.Sockets != "" {
		row("Sockets", "%s", r.Sockets)
	}
	byModule := map[string][]string{}
	for _, i := range m.Imports {
		byModule[i.Module] = append(byModule[i.Module], i.Name)
	}
	names := make([]string, 0, len(byModule))
	for name := range byModule {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row("Imports of "+name, "%s", strings.Join(byModule[name], " "))
	}
	exports := make([]string, len(m.Exports))
	for i, e := range m.Exports {
		exports[i] = e.Name
	}
	row("Exports", "%s", strings.Join(exports, " "))
	return w.Flush()
}
