package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm"
	"wherry.dev/wherry/runtime/wasm/memconn"
)

// runFlags are the flags of wherry run.
type runFlags struct {
	dirs, env, listen   []string
	memory, cpu, invoke string
	fuel                int64
}

func newRun(streams Streams) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run FILE.wasm [ARG...]",
		Short: "Run a module here, in a pod's sandbox without a cluster",
		Long: "Run a WebAssembly core module in the sandbox that pods run in, and exit with its code.\n" +
			"It sees the directories of --dir and nothing else of this machine's files, the variables of\n" +
			"--env and none of this process', and can dial what pods can: not this machine's loopback.",
		Example: "  wherry run app.wasm one two\n" +
			"  wherry run --dir ./site:/srv:ro --listen 127.0.0.1:8080 server.wasm\n" +
			"  wherry run --invoke add library.wasm 2 3",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return f.run(ctx, streams, args)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the module is the module's
	flags.StringArrayVar(&f.dirs, "dir", nil, "a directory or file for the guest, as host:guest or host:guest:ro; repeatable")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "a variable for the guest, as NAME=value, or NAME to pass this process' own on; repeatable")
	flags.StringArrayVar(&f.listen, "listen", nil, "an address whose connections the guest accepts, as host:port; repeatable, descriptors from 3 on")
	flags.StringVar(&f.memory, "memory", "", "the most memory that the guest may have, for example 64Mi")
	flags.StringVar(&f.cpu, "cpu", "", "the guest's share of processors, for example 500m")
	flags.Int64Var(&f.fuel, "fuel", 0, "end the guest after so much work, in units of about one instruction")
	flags.StringVar(&f.invoke, "invoke", "", "call this exported function with the arguments as numbers, and print its results")
	return cmd
}

// runGrace is how long a guest may take to end when it is told to.
const runGrace = 10 * time.Second

// run runs the module to its end.
func (f *runFlags) run(ctx context.Context, streams Streams, args []string) error {
	spec, err := f.spec(streams, args)
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	listeners, err := f.listenAll(&spec)
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer closeAll(listeners)
	runtime, err := wasm.New(wasm.Config{Dir: filepath.Join(defaultDataDir(), "machine", "modules"), OnCompile: compileNote(streams.Err, args[0])})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer func() {
		ended, cancel := context.WithTimeout(context.Background(), guestsEnd)
		defer cancel()
		_ = runtime.Close(ended)
	}()
	dialer := net.Dialer{ControlContext: refuseOwnLoopback}
	box, err := runtime.Create(ctx, sandbox.Pod{UID: "run", Namespace: "run", Name: spec.Name, Hostname: "wherry", Dial: dialer.DialContext})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	guest, err := box.Start(ctx, spec)
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	var serving sync.WaitGroup
	for i, l := range listeners {
		fmt.Fprintln(streams.Err, "wherry: listening on", l.Addr())
		serving.Go(func() { serveGuest(&serving, l, box, spec.Ports[i].Number) })
	}
	select {
	case <-guest.Done():
	case <-ctx.Done():
		if err := guest.Stop(context.WithoutCancel(ctx), runGrace); err != nil {
			return fmt.Errorf("run: %w", err)
		}
	}
	closeAll(listeners)
	serving.Wait()
	exit := guest.Exit()
	if exit.Message != "" {
		fmt.Fprintln(streams.Err, "wherry:", exit.Message)
	}
	if exit.Code != 0 {
		return exitCode(exit.Code)
	}
	return nil
}

// spec is the container that the flags and arguments ask for.
func (f *runFlags) spec(streams Streams, args []string) (sandbox.ContainerSpec, error) {
	file, err := filepath.Abs(args[0])
	if err != nil {
		return sandbox.ContainerSpec{}, err
	}
	wasmBytes, err := os.ReadFile(file)
	if err != nil {
		return sandbox.ContainerSpec{}, err
	}
	sum := sha256.Sum256(wasmBytes)
	spec := sandbox.ContainerSpec{
		Name:  strings.TrimSuffix(filepath.Base(file), ".wasm"),
		Image: sandbox.Image{Ref: args[0], Module: file, ModuleSum: "sha256:" + hex.EncodeToString(sum[:])},
		Args:  append([]string{filepath.Base(file)}, args[1:]...),
		Stdin: streams.In, Stdout: streams.Out, Stderr: streams.Err, Invoke: f.invoke, Fuel: f.fuel,
	}
	for _, kv := range f.env {
		if !strings.Contains(kv, "=") {
			value, ok := os.LookupEnv(kv)
			if !ok {
				continue
			}
			kv += "=" + value
		}
		spec.Env = append(spec.Env, kv)
	}
	if spec.MemoryLimit, err = quantity("memory", f.memory, (*resource.Quantity).Value); err != nil {
		return spec, err
	}
	if spec.CPULimit, err = quantity("cpu", f.cpu, (*resource.Quantity).MilliValue); err != nil {
		return spec, err
	}
	if f.fuel < 0 {
		return spec, fmt.Errorf("--fuel %d: want a number above 0", f.fuel)
	}
	spec.Mounts, err = mountsOf(f.dirs)
	return spec, err
}

// quantity reads a flag that is a quantity of Kubernetes; empty is 0.
func quantity(flag, text string, value func(*resource.Quantity) int64) (int64, error) {
	if text == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		return 0, fmt.Errorf("--%s %q: want a quantity above 0, for example 64Mi or 500m", flag, text)
	}
	return value(&q), nil
}

// mountsOf reads host:guest and host:guest:ro; a lone host is seen under its
// own name. The guest's path begins behind the last colon that a slash follows,
// so that C:\dir works; C:/dir is one too, and /:/dir is not.
func mountsOf(dirs []string) ([]sandbox.Mount, error) {
	var mounts []sandbox.Mount
	for _, dir := range dirs {
		rest, readOnly := strings.CutSuffix(dir, ":ro")
		host, target := rest, ""
		if at := strings.LastIndex(rest, ":/"); at > 1 || at == 1 && rest[0] == '/' {
			host, target = rest[:at], rest[at+1:]
		}
		source, err := filepath.Abs(host)
		if err != nil {
			return nil, fmt.Errorf("--dir %q: %w", dir, err)
		}
		if _, err := os.Stat(source); err != nil {
			return nil, fmt.Errorf("--dir %q: %w", dir, err)
		}
		if target == "" {
			target = path.Clean("/" + filepath.ToSlash(host))
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: target, ReadOnly: readOnly})
	}
	return mounts, nil
}

// listenAll opens the addresses of --listen and gives the guest a port for each.
func (f *runFlags) listenAll(spec *sandbox.ContainerSpec) ([]net.Listener, error) {
	var all []net.Listener
	for i, address := range f.listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("--listen %s: %w", address, err)
		}
		all = append(all, l)
		number := uint16(l.Addr().(*net.TCPAddr).Port)
		for _, p := range spec.Ports {
			if p.Number == number { // the same port of two addresses
				number = uint16(i + 1)
			}
		}
		spec.Ports = append(spec.Ports, sandbox.Port{Name: strconv.Itoa(int(number)), Number: number, Protocol: "TCP"})
	}
	return all, nil
}

func closeAll(all []net.Listener) {
	for _, l := range all {
		_ = l.Close()
	}
}

// serveGuest hands a listener's connections to the guest until it is closed.
func serveGuest(work *sync.WaitGroup, l net.Listener, box sandbox.Sandbox, port uint16) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors
			time.Sleep(50 * time.Millisecond)
			continue
		}
		in, err := box.Dial(context.Background(), port, c.RemoteAddr())
		if err != nil {
			_ = c.Close()
			continue
		}
		if mem := in.(*memconn.Conn); !mem.Handover(c, nil) {
			work.Go(func() { memconn.Splice(c, mem) })
		}
	}
}

// refuseOwnLoopback keeps guests from what trusts whoever is on this machine.
func refuseOwnLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsUnspecified() {
		return errLoopback
	}
	return nil
}

// compileNote says that a long compilation is under way, once.
func compileNote(w io.Writer, file string) func(sum, phase string, elapsed time.Duration) {
	var once sync.Once
	return func(_, phase string, elapsed time.Duration) {
		if elapsed >= time.Second && phase != "done" {
			once.Do(func() { fmt.Fprintf(w, "wherry: compiling %s, for the first time only\n", file) })
		}
	}
}
