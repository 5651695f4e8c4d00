package wasm

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"wherry.dev/wherry/runtime/sandbox"
)

// initFunction prepares a library before its functions are called.
const initFunction = "_initialize"

// checkEntry refuses a container whose module lacks what it shall begin with.
func (p *program) checkEntry(spec sandbox.ContainerSpec) error {
	if spec.Handler != nil {
		return p.checkStart(spec.Image.Ref)
	}
	if spec.Invoke == "" && exports(p.module.Info(), startFunction) {
		return nil
	}
	if spec.Invoke == "" {
		return &sandbox.InvalidImageError{Ref: spec.Image.Ref, Reason: notAProgram}
	}
	f, ok := p.module.Compiled().ExportedFunctions()[spec.Invoke]
	if !ok {
		names := []string{}
		for name := range p.module.Compiled().ExportedFunctions() {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("the module exports no function %q; it has %s", spec.Invoke, cmp.Or(strings.Join(names, ", "), "none"))
	}
	_, err := numbers(f, spec.Invoke, spec.Args)
	return err
}

// enter runs the guest's code from its entry on.
func (c *container) enter(ctx context.Context, in api.Module) error {
	if err := c.program.begin(ctx, in, c.spec.Invoke != "" && c.spec.Invoke != initFunction); err != nil {
		return err
	}
	if c.spec.Invoke == "" {
		_, err := c.meter.Call(ctx, in.ExportedFunction(startFunction), c.memory)
		return err
	}
	f := in.ExportedFunction(c.spec.Invoke)
	args, err := numbers(f.Definition(), c.spec.Invoke, c.spec.Args)
	if err != nil {
		return err
	}
	results, err := c.meter.Call(ctx, f, c.memory, args...)
	if err != nil || len(results) == 0 || c.spec.Stdout == nil {
		return err
	}
	_, err = io.WriteString(c.spec.Stdout, format(f.Definition(), results)+"\n")
	return err
}

// numbers reads the arguments of a function behind its name.
func numbers(f api.FunctionDefinition, name string, args []string) ([]uint64, error) {
	types := f.ParamTypes()
	if given := max(0, len(args)-1); given != len(types) {
		return nil, fmt.Errorf("function %q takes %d numbers, not %d", name, len(types), given)
	}
	values := make([]uint64, len(types))
	for i, t := range types {
		var err error
		if values[i], err = number(t, args[i+1]); err != nil {
			return nil, fmt.Errorf("argument %d of function %q: %w", i+1, name, err)
		}
	}
	return values, nil
}

func number(t api.ValueType, text string) (uint64, error) {
	integer := func(bits int) (uint64, error) {
		if v, err := strconv.ParseInt(text, 0, bits); err == nil {
			return uint64(v), nil
		}
		v, err := strconv.ParseUint(text, 0, bits)
		if err != nil {
			return 0, fmt.Errorf("%q is no integer of %d bits", text, bits)
		}
		return v, nil
	}
	switch t {
	case api.ValueTypeI32:
		v, err := integer(32)
		return uint64(uint32(v)), err
	case api.ValueTypeI64:
		return integer(64)
	case api.ValueTypeF32:
		v, err := strconv.ParseFloat(text, 32)
		return uint64(math.Float32bits(float32(v))), err
	case api.ValueTypeF64:
		v, err := strconv.ParseFloat(text, 64)
		return math.Float64bits(v), err
	}
	return 0, fmt.Errorf("its type %s is no number", api.ValueTypeName(t))
}

func format(f api.FunctionDefinition, values []uint64) string {
	texts := make([]string, len(values))
	for i, t := range f.ResultTypes() {
		switch v := values[i]; t {
		case api.ValueTypeI32:
			texts[i] = strconv.FormatInt(int64(int32(v)), 10)
		case api.ValueTypeI64:
			texts[i] = strconv.FormatInt(int64(v), 10)
		case api.ValueTypeF32:
			texts[i] = strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
		case api.ValueTypeF64:
			texts[i] = strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64)
		default:
			texts[i] = "(" + api.ValueTypeName(t) + ")"
		}
	}
	return strings.Join(texts, " ")
}
