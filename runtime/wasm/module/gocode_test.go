package module

import (
	"bytes"
	"context"
	_ "embed"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

//go:embed testdata/behaviour.go
var goBehaviour string

// TestGoBehaviour: what Go programs do, and how they panic, is the same in the
// sandbox as under wazero as it comes.
func TestGoBehaviour(t *testing.T) {
	if raceEnabled {
		t.Skip("nothing here is concurrent, and under the race detector wazero compiles for minutes; the plain run has it")
	}
	for name, flags := range map[string][]string{"optimised": nil, "unoptimised": {"-gcflags=all=-N -l"}} {
		t.Run(name, func(t *testing.T) {
			wasm := goModuleWith(t, goBehaviour+"// "+name+"\n", flags...)
			run := func(make func(context.Context, wazero.ModuleConfig) (api.Module, error)) string {
				var out bytes.Buffer
				cfg := wazero.NewModuleConfig().WithArgs("behaviour").WithName("").WithStartFunctions().WithStdout(&out).WithStderr(&out).
					WithSysNanotime().WithSysWalltime()
				ctx := WithMeter(context.Background(), NewMeter(0))
				mod, err := make(ctx, cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer mod.Close(ctx)
				if _, err := mod.ExportedFunction("_start").Call(ctx); err != nil && !strings.Contains(err.Error(), "exit_code(0)") {
					t.Fatalf("%v\n%s", err, out.String())
				}
				return out.String()
			}
			h := newHost(t, Config{})
			m := h.load(t, wasm)
			ours := run(func(ctx context.Context, cfg wazero.ModuleConfig) (api.Module, error) {
				return m.Instantiate(ctx, cfg, Limits{})
			})
			plain, err := h.rt.CompileModule(context.Background(), wasm)
			if err != nil {
				t.Fatal(err)
			}
			stock := run(func(ctx context.Context, cfg wazero.ModuleConfig) (api.Module, error) {
				return h.rt.InstantiateModule(ctx, plain, cfg)
			})
			if ours != stock {
				t.Errorf("here:\n%s\nunder wazero as it comes:\n%s", ours, stock)
			}
			if !strings.HasSuffix(ours, "end\n") || !strings.Contains(ours, "nil pointer panicked") {
				t.Errorf("the program ended early:\n%s", ours)
			}
		})
	}
}

// goProducers is the custom section by which the toolchain is known.
func goProducers() custom {
	payload := appendU32(appendName(appendU32(nil, 1), "processed-by"), 1)
	return custom{name: "producers", payload: appendName(appendName(payload, "Go cmd/compile"), "go1.26")}
}

// TestGoFunctionsAreImproved: nearly all functions of a program have the form
// that is known. The few others are written in assembly.
func TestGoFunctionsAreImproved(t *testing.T) {
	wasm := goModule(t, goHello)
	before, err := parse(wasm)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := parse(wasm)
	after.improveGo()
	same := 0
	for i := range before.bodies {
		if bytes.Equal(before.bodies[i], after.bodies[i]) {
			same++
		}
	}
	if most := len(before.bodies) / 20; same > most {
		t.Errorf("%d of %d functions are as they were, more than %d", same, len(before.bodies), most)
	}
}

// TestOnlyGoIsImproved: a module has to say that the toolchain has made it.
func TestOnlyGoIsImproved(t *testing.T) {
	code := func(wasm []byte) []byte {
		out, err := Rewrite(wasm)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parse(out.Wasm)
		if err != nil {
			t.Fatal(err)
		}
		return p.bodies[2]
	}
	wasm := randomGoProgram(3)
	without := bytes.Replace(wasm, []byte("Go cmd/compile"), []byte("No cmd/compile"), 1)
	if bytes.Equal(code(wasm), code(without)) {
		t.Error("a module of another toolchain is written anew, or this one's is not")
	}
}
