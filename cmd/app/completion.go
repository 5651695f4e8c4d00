package app

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wherry.dev/wherry/cmd/app/dev"
)

// completionPatience is how long a shell waits for a cluster; one that does not
// answer in time has nothing to offer.
const completionPatience = 3 * time.Second

// addCompletion says for every command and flag what a shell may offer, and
// gives the completion commands their examples. It comes after all commands.
func addCompletion(root *cobra.Command, at *target) {
	byPath := map[string]cobra.CompletionFunc{
		"wherry logs":          firstOnly(words(at.appNames)),
		"wherry token delete":  firstOnly(words(at.tokenIDs)),
		"wherry kubectl":       completeKubectl(at),
		"wherry push":          pushWords(at),
		"wherry new":           newWords,
		"wherry dev":           firstOnly(filesNamed("wasm")),
		"wherry inspect":       firstOnly(filesNamed("wasm")),
		"wherry run":           runWords,
		"wherry bench":         scenarioWords,
		"wherry bench compare": anyFile,
	}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
		if complete, ok := byPath[cmd.CommandPath()]; ok {
			cmd.ValidArgsFunction = complete
		}
		register := func(f *pflag.Flag) {
			if complete := flagWords(at, f); complete != nil {
				// An error would mean a flag that is there twice.
				_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
			}
		}
		cmd.LocalNonPersistentFlags().VisitAll(register)
		cmd.PersistentFlags().VisitAll(register)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			completionExamples(cmd)
		}
	}
}

func completionExamples(cmd *cobra.Command) {
	cmd.Short = "Print a script that lets a shell complete commands, flags and names of the cluster"
	cmd.Example = "  wherry completion bash >/etc/bash_completion.d/wherry\n  wherry completion zsh >~/.zfunc/_wherry\n  wherry completion fish >~/.config/fish/completions/wherry.fish"
	for _, shell := range cmd.Commands() {
		shell.Example = "  wherry completion " + shell.Name() + " --no-descriptions"
	}
}

// flagWords is what a shell may offer for a flag's value; nil for flags
// without one.
func flagWords(at *target, f *pflag.Flag) cobra.CompletionFunc {
	fixed := func(choices ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
	}
	if f.NoOptDefVal != "" {
		return nil // a switch
	}
	switch f.Name {
	case "output":
		if f.Value.Type() == "format" {
			return fixed(string(outputTable), string(outputJSON))
		}
		return fixed(benchGo, benchTable, benchJSON)
	case "log-level":
		return fixed("debug", "info", "warn", "error")
	case "audit-level":
		return fixed("None", "Metadata", "Request")
	case "namespace":
		return words(at.namespaces)
	case "context":
		return words(at.contexts)
	case "container":
		return words(at.containerNames)
	case "data-dir", "pod-manifest-path":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case "dir", "kubeconfig", "config", "authentication-config", "encryption-key-file", "scheduler-config", "oidc-ca-file",
		"audit-log-path", "html", "guest":
		return anyFile
	}
	return cobra.NoFileCompletions
}

// words makes a completion of a list; what begins as the typed word is
// offered. A list that cannot be had is empty.
func words(list func(ctx context.Context, cmd *cobra.Command) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
		defer cancel()
		found, err := list(ctx, cmd)
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		found = slices.DeleteFunc(found, func(word string) bool { return !strings.HasPrefix(word, typed) })
		slices.Sort(found)
		return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
	}
}

// firstOnly completes the first argument only.
func firstOnly(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, typed)
	}
}

// filesNamed offers files with an extension, and directories.
func filesNamed(extension string) cobra.CompletionFunc {
	return cobra.FixedCompletions([]string{extension}, cobra.ShellCompDirectiveFilterFileExt)
}

func anyFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// runWords: the arguments after the module are the guest's, mostly files.
func runWords(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return anyFile(cmd, args, typed)
	}
	return filesNamed("wasm")(cmd, args, typed)
}

// newWords offers the starters, then a directory.
func newWords(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return words(func(context.Context, *cobra.Command) ([]string, error) {
			var kinds []string
			for _, line := range dev.Kinds() {
				kind, what, _ := strings.Cut(line, " ")
				kinds = append(kinds, kind+"\t"+strings.TrimSpace(what))
			}
			return kinds, nil
		})(cmd, args, typed)
	case 1:
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// scenarioWords offers the scenarios that were not named yet.
func scenarioWords(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return words(func(context.Context, *cobra.Command) ([]string, error) {
		return slices.DeleteFunc(scenarioNames(), func(name string) bool { return slices.Contains(args, name) }), nil
	})(cmd, args, typed)
}

// pushWords offers modules, then the names that the cluster's registry has.
func pushWords(at *target) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return filesNamed("wasm")(cmd, args, typed)
		case 1:
			return words(at.imageNames)(cmd, args, typed)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeKubectl asks kubectl, which knows the cluster's kinds and names.
func completeKubectl(at *target) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var out bytes.Buffer
		request := append(append([]string{cobra.ShellCompRequestCmd}, args...), typed)
		command, err := kubectlCommand(at, request, Streams{In: strings.NewReader(""), Out: &out, Err: io.Discard})
		if err == nil {
			err = command.Execute()
		}
		// The last line is a colon and the directive.
		text, last, ok := strings.Cut("\n"+strings.TrimRight(out.String(), "\n"), "\n:")
		directive, parseErr := strconv.Atoi(last)
		if err != nil || !ok || parseErr != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []cobra.Completion
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, "\n"); line != "" {
				found = append(found, line)
			}
		}
		return found, cobra.ShellCompDirective(directive)
	}
}
