package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/console"
	"wherry.dev/wherry/cmd/app/dev"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/wasm/module"
)

// devFlags are the flags of "wherry dev".
type devFlags struct {
	namespace, address string
	once, compile      bool
}

func newDev(at *target, streams Streams) *cobra.Command {
	var flags devFlags
	cmd := &cobra.Command{
		Use:   "dev [DIRECTORY|FILE.wasm]",
		Short: "Build, push and run a guest, and do it again whenever its source changes",
		Long: "Build a guest, push it, apply its manifest, forward a port to it and show its logs; then build and roll out again\n" +
			"whenever a source file changes. Ctrl-C ends it and leaves the app running.\n\n" +
			"The guest is interpreted, so that a change is served as soon as it is built: a Go module takes seconds to be\n" +
			"compiled. Interpreted code is many times slower; --compile is for trying how fast it really is.\n\n" +
			"A directory with Go files is built with the stock toolchain, a .wasm file is taken as it is; for everything else\n" +
			"a file " + dev.ProjectFile + " in the directory says how:\n\n" +
			"  build: cargo build --target wasm32-wasip1 --release\n" +
			"  output: target/wasm32-wasip1/release/app.wasm\n" +
			"  name: app               # of the image; the directory's name by default\n" +
			"  manifest: manifest.yaml # a Deployment and a Service are made up where there is none\n" +
			"  port: 8080              # of the made-up manifest",
		Example: "  wherry new go hello && wherry dev hello\n  wherry dev app.wasm --address 127.0.0.1:9000",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			path := "."
			if len(args) > 0 {
				path = args[0]
			}
			session, err := openDev(at, console.New(streams.Out), path, flags)
			if err != nil {
				return err
			}
			err = session.run(ctx)
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&flags.namespace, "namespace", "n", metav1.NamespaceDefault, "namespace of the app")
	f.StringVar(&flags.address, "address", "127.0.0.1:8080", "address at which the app's Service answers here")
	f.BoolVar(&flags.compile, "compile", false, "have the nodes compile each build, as they do with images that are pushed and applied")
	f.BoolVar(&flags.once, "once", false, "build and roll out once, wait until it serves, and end")
	return cmd
}

func newNew(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "new KIND DIRECTORY",
		Short:   "Write a starter: a guest and its manifest",
		Long:    "Write a starter, a guest and its manifest, into a new directory. The kinds are:\n\n",
		Example: "  wherry new go hello\n  wherry dev hello",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := dev.New(args[0], args[1])
			if err != nil {
				return err
			}
			out := console.New(streams.Out)
			for _, file := range files {
				out.Printf("wrote %s", filepath.Join(args[1], file))
			}
			out.Printf("\nTry next:\n  wherry dev %s", args[1])
			return nil
		},
	}
	for _, kind := range dev.Kinds() {
		cmd.Long += "  " + kind + "\n"
	}
	return cmd
}

// devSession is one "wherry dev": a project and the cluster it goes to.
type devSession struct {
	flags    devFlags
	project  *dev.Project
	out      *console.Console
	client   *kubernetes.Clientset
	applier  *applier
	registry image.Target
	forward  *forwarder
}

func openDev(at *target, out *console.Console, path string, flags devFlags) (*devSession, error) {
	project, err := dev.Open(path)
	if err != nil {
		return nil, err
	}
	client, config, err := at.clientset()
	if err != nil {
		return nil, err
	}
	s := &devSession{flags: flags, project: project, out: out, client: client}
	if s.registry, err = registryTarget(config); err != nil {
		return nil, err
	}
	if s.applier, err = newApplier(config, "wherry-dev", flags.namespace); err != nil {
		return nil, err
	}
	s.forward, err = newForwarder(config, flags.address, flags.namespace)
	return s, err
}

// run does what the command says until ctx ends.
func (s *devSession) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	if !s.flags.once {
		listener, err := s.forward.listen(ctx)
		if err != nil {
			return err
		}
		reader := newLogReader(s.client, s.out, logFlags{namespace: s.flags.namespace, tail: -1, since: time.Second})
		parts.Go(func() {
			pods := metav1.ListOptions{LabelSelector: dev.Label + "=" + s.project.Name}
			if err := reader.follow(ctx, pods); err != nil && ctx.Err() == nil {
				s.out.Printf("%s", s.out.Paint(console.Bad, "logs: "+err.Error()))
			}
		})
		parts.Go(func() {
			if err := s.forward.serve(ctx, listener); err != nil && ctx.Err() == nil {
				s.out.Printf("%s", s.out.Paint(console.Bad, "forward: "+err.Error()))
			}
		})
	}
	for {
		state, err := s.project.State()
		if err != nil {
			return err
		}
		round, end := context.WithCancel(ctx)
		var rolling sync.WaitGroup
		failed := s.round(round, &rolling)
		var refused *dev.BuildError
		if failed != nil && (s.flags.once || !errors.As(failed, &refused) && ctx.Err() == nil && !userError(failed)) {
			end()
			rolling.Wait()
			return failed
		}
		if failed != nil && ctx.Err() == nil {
			s.out.Printf("%s", s.out.Paint(console.Bad, failed.Error()))
		}
		if s.flags.once {
			rolling.Wait()
			end()
			return ctx.Err()
		}
		_, err = s.project.Changed(ctx, state)
		end()
		rolling.Wait()
		if err != nil {
			return err
		}
	}
}

// mistake is a failure that the user mends in the sources: dev goes on.
type mistake struct{ error }

func (m mistake) Unwrap() error { return m.error }

func userError(err error) bool {
	var m mistake
	return errors.As(err, &m)
}

// round builds, pushes and applies. That the app serves again is told by a
// part of rolling, which ends with ctx: another change does not wait for it.
func (s *devSession) round(ctx context.Context, rolling *sync.WaitGroup) error {
	began := time.Now()
	watching := s.out.Progress("building " + s.project.Name)
	wasm, err := s.project.Compile(ctx)
	built := watching.Done()
	if err != nil {
		return err
	}
	if _, err := module.Inspect(wasm); err != nil {
		return mistake{fmt.Errorf("%s: %w", s.project.Output, err)}
	}
	sum := sha256.Sum256(wasm)
	ref := s.project.Name + ":dev-" + hex.EncodeToString(sum[:6])
	if _, err := image.Push(ctx, s.registry, ref, wasm, time.Unix(0, 0)); err != nil {
		return err
	}
	objects, err := s.project.Objects(ref, !s.flags.compile)
	if err != nil {
		return mistake{err}
	}
	done := "is applied" // a job has nothing to serve
	for _, object := range objects {
		applied, err := s.applier.apply(ctx, object)
		if err != nil {
			return mistake{err}
		}
		if applied.GetKind() == "Service" && s.forward.serves(applied) {
			done = "serves"
			if !s.flags.once {
				s.out.Field("Forward", "http://%s to the Service %s", s.forward.address, applied.GetName())
			}
		}
	}
	s.out.Printf("%s built in %d ms (%s), rolling out", ref, built.Milliseconds(), size(len(wasm)))
	rolling.Go(func() {
		for _, object := range objects {
			if err := s.applier.rolledOut(ctx, object); err != nil {
				if ctx.Err() == nil {
					s.out.Printf("%s", s.out.Paint(console.Bad, err.Error()))
				}
				return
			}
		}
		s.out.Printf("%s", s.out.Paint(console.Good, fmt.Sprintf("%s %s, %d ms after the change", ref, done, time.Since(began).Milliseconds())))
	})
	return nil
}
