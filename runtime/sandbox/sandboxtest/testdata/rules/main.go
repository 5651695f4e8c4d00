// Command rules is a guest of some megabytes: it evaluates an expression in
// CEL, as an admission policy would, and prints the result.
package main

import (
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	env, err := cel.NewEnv(cel.Variable("replicas", cel.IntType), cel.Variable("labels", cel.MapType(cel.StringType, cel.StringType)))
	if err != nil {
		return err
	}
	ast, issues := env.Compile(`replicas < 5 && labels.all(k, k.startsWith("app")) && labels["app"].matches("^[a-z]+$")`)
	if issues.Err() != nil {
		return issues.Err()
	}
	program, err := env.Program(ast)
	if err != nil {
		return err
	}
	out, _, err := program.Eval(map[string]any{"replicas": 3, "labels": map[string]string{"app": "web"}})
	if err != nil {
		return err
	}
	fmt.Println(out)
	return nil
}
