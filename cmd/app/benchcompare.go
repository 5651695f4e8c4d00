package app

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/cmd/app/console"
)

func newBenchCompare(streams Streams) *cobra.Command {
	var format *output
	var all bool
	cmd := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Compare two results of wherry bench, or of any Go benchmarks",
		Long: "Compare two results of wherry bench, or of any Go benchmarks: files in their format, or in JSON; - is the\n" +
			"standard input. A difference counts when the Mann-Whitney U test gives it less than 5 % of being chance;\n" +
			"that needs four repetitions or more on each side. The exit code is 0 whatever the differences are.",
		Example: "  wherry bench compare old.txt new.txt\n" +
			"  wherry bench apply | wherry bench compare old.txt -\n" +
			"  wherry bench compare old.json new.json --output json",
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			old, err := readBench(streams, args[0])
			if err != nil {
				return err
			}
			now, err := readBench(streams, args[1])
			if err != nil {
				return err
			}
			c := result.Compare(old, now)
			if len(c.Changes) == 0 {
				return fmt.Errorf("bench compare: %s and %s have no result in common", args[0], args[1])
			}
			if *format == outputJSON {
				return printJSON(streams.Out, c)
			}
			printComparison(console.New(streams.Out), c, all)
			return nil
		},
	}
	format = bindOutput(cmd.Flags())
	cmd.Flags().BoolVar(&all, "all", false, "also show figures that have not changed")
	return cmd
}

func readBench(streams Streams, path string) (*result.Report, error) {
	in := streams.In
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("bench compare: %w", err)
		}
		defer file.Close()
		in = file
	}
	report, err := result.Read(in)
	if err != nil {
		return nil, fmt.Errorf("bench compare: %s: %w", path, err)
	}
	return report, nil
}

// printComparison shows what changed; all: what did not, too.
func printComparison(c *console.Console, comparison *result.Comparison, all bool) {
	for _, difference := range comparison.Setup {
		switch {
		case !strings.HasPrefix(difference, "noise"):
			c.Printf("%s", c.Paint(console.Warn, "set-up differs: "+difference))
		case strings.HasPrefix(difference, "noise-work") || strings.HasPrefix(difference, "noise-load"):
			// It always differs; whether by much is the reader's to judge.
			c.Printf("%s", c.Paint(console.Faint, difference))
		}
	}
	var rows [][]console.Cell
	name, same, few := "", 0, false
	for _, change := range comparison.Changes {
		if change.Verdict == result.Same && !change.TooFew {
			same++
			if !all {
				continue
			}
		}
		cell := console.Cell{Text: change.Name, Style: console.Bold}
		if change.Name == name {
			cell.Text = ""
		}
		name = change.Name
		style := map[result.Verdict]console.Style{result.Better: console.Good, result.Worse: console.Bad, result.Same: console.Faint}[change.Verdict]
		verdict, chance := string(change.Verdict), fmt.Sprintf("%.3f", change.P)
		if change.TooFew {
			few, verdict, chance = true, "?", ""
		}
		rows = append(rows, []console.Cell{cell, {Text: change.Unit, Style: console.Faint}, {Text: change.Old.String()}, {Text: change.New.String()},
			{Text: change.Percents(), Style: style}, {Text: verdict, Style: style}, {Text: chance, Style: console.Faint}})
	}
	if len(rows) > 0 {
		c.Table([]string{"RESULT", "UNIT", "OLD", "NEW", "CHANGE", "VERDICT", "P"}, rows)
	}
	if few {
		c.Printf("%s", c.Paint(console.Warn, "?: too few repetitions to tell a change from chance; measure both sides with --repeat 4 or more"))
	}
	if same > 0 && !all {
		c.Printf("%d figures have not changed by more than chance may; --all shows them.", same)
	}
	for _, one := range comparison.OnlyOld {
		c.Printf("%s", c.Paint(console.Faint, "only in the old one: "+one))
	}
	for _, one := range comparison.OnlyNew {
		c.Printf("%s", c.Paint(console.Faint, "only in the new one: "+one))
	}
}
