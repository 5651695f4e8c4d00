package app

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// output is the value of --output: how a command that prints a table answers.
type output string

const (
	outputTable output = "table"
	outputJSON  output = "json"
)

// bindOutput adds --output, -o to a command.
func bindOutput(flags *pflag.FlagSet) *output {
	o := outputTable
	flags.VarP(&o, "output", "o", "how to answer: table or json")
	return &o
}

// String, Set and Type implement pflag.Value.
func (o *output) String() string { return string(*o) }

func (o *output) Set(text string) error {
	switch output(text) {
	case outputTable, outputJSON:
		*o = output(text)
		return nil
	}
	return fmt.Errorf("want table or json")
}

func (o *output) Type() string { return "format" }

// printJSON writes a value as indented JSON.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
