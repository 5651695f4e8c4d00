// Package sandbox says what it is to run a pod: a Runtime makes a Sandbox per
// pod, a Sandbox starts Containers. The agent is its user; wasm and (later)
// oci implement it; sandboxtest is the suite of every implementation.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Image is a pulled and verified image on this node, as package image hands
// it to a Runtime.
type Image struct {
	Ref        string // as the pod names it
	Digest     string // of the manifest: "sha256:…", the ID that pods report
	Module     string // path of the .wasm file
	ModuleSum  string // digest of the module's bytes: "sha256:…"; compiled once under it
	Entrypoint []string
	Cmd        []string
	Env        []string // "K=V"
	WorkingDir string
	// Snapshot: the module is initialised once on this node, when it is prepared,
	// and every container starts from what that has made of its memory.
	Snapshot bool
	// Interpret: the module is not compiled. It starts sooner when nobody has
	// seen it, and runs many times slower.
	Interpret bool
}

// Runtime runs pods in one way. Its methods are safe for concurrent use.
type Runtime interface {
	// Prepare makes an image ready to start at once: validates it, rewrites and
	// compiles it, keeps the result by ModuleSum on disk. It is idempotent and
	// concurrent calls for one module do the work once. An *InvalidImageError
	// says that this image can never run here and why.
	Prepare(ctx context.Context, image Image) error
	// Create makes the sandbox of a pod: its address and listeners' home.
	Create(ctx context.Context, pod Pod) (Sandbox, error)
	// Recover returns the sandboxes that outlived the agent's last process.
	// A runtime whose guests live in the process returns none.
	Recover(ctx context.Context) ([]Sandbox, error)
}

// Forgetter is a Runtime that keeps what Prepare has made of images.
type Forgetter interface {
	// Forget removes all that was made of a module, from memory and from the
	// disk, and returns how many bytes of the disk that has freed. ErrInUse: a
	// container runs it, or it is being prepared; then it stays. Prepare makes it
	// anew.
	Forget(ctx context.Context, moduleSum string) (int64, error)
}

// ErrInUse keeps from being removed what somebody needs.
var ErrInUse = errors.New("it is in use")

// Pod is what a sandbox needs to know of a pod.
type Pod struct {
	UID       string
	Namespace string
	Name      string
	Hostname  string
	// IP is the pod's address; listeners are bound to it.
	IP netip.Addr
	// Ports are all container ports of the pod.
	Ports []Port
	// MemoryLimit bounds the linear memories of all containers together, in
	// bytes; 0: no limit but their own.
	MemoryLimit int64
	// Dial connects guests to the outside: addresses of Services, of other
	// pods and of the world. network is "tcp" or "udp", address is host:port
	// where host may be a name. It is nil when guests may not dial.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Port is a port that a container listens on.
type Port struct {
	Name     string
	Number   uint16
	Protocol string // "TCP" or "UDP"
}

// Sandbox is the environment that the containers of one pod share.
type Sandbox interface {
	// Pod returns what the sandbox was created with.
	Pod() Pod
	// Start begins a container. An error means that it never ran; its text is
	// shown to the user in the container's waiting state (CreateContainerError
	// or RunContainerError).
	Start(ctx context.Context, c ContainerSpec) (Container, error)
	// Dial connects to a port of the pod without caring how; on one node the
	// bytes stay in memory. peer is the client's address as the guest sees it;
	// nil gives the guest no real one. ErrConnRefused: nothing listens there.
	Dial(ctx context.Context, port uint16, peer net.Addr) (net.Conn, error)
	// Close ends all containers at once and frees the sandbox. It returns when
	// no goroutine or listener of it is left.
	Close(ctx context.Context) error
}

// ContainerSpec is one container to start. Strings are complete: variables
// are expanded, defaults from the image applied.
type ContainerSpec struct {
	Name       string
	Image      Image
	Args       []string // argv, with argv[0]
	Env        []string // "K=V", later entries win
	WorkingDir string
	Mounts     []Mount
	Ports      []Port // become listening descriptors from 3 on, in this order
	Resources
	Stdin  io.Reader // nil: at end of file
	Stdout io.Writer
	Stderr io.Writer
	// TTY makes Stdin and Stdout the two ends of a terminal: input is echoed
	// and edited line by line, ^C ends the guest with code 130, ^D is the end of
	// the input, and a line ends with CR LF. Stderr is Stdout then.
	TTY bool
	// Window tells the size of the terminal now, in characters; 0 and 0, or a
	// nil Window: not known.
	Window func() (columns, rows uint16)
	// Invoke names an exported function that is called instead of the program's
	// start, with Args[1:] as its numbers; its results are written to Stdout, one
	// line. A library's _initialize runs before. Empty: the program's start.
	Invoke string
	// Handler makes the container a request handler; nil: a program that runs.
	Handler *Handler
	// Fuel ends the guest when it has done so much work, in units of about one
	// WebAssembly instruction; 0: no bound.
	Fuel int64
}

// Handler says that a container answers HTTP requests on its one TCP port, each
// with a fresh instance of its module: CGI/1.1 over standard input and output.
// The container's resources are what each instance may use.
type Handler struct {
	Concurrency int           // instances at the same time; more requests wait. 0: 8
	Deadline    time.Duration // of a request, from its arrival on; 0: 30 s
	Prepared    int           // instances that are made ahead; 0: none
}

// Resources are what a container may use. They can be changed while it runs.
type Resources struct {
	// MemoryLimit bounds the guest's linear memory, in bytes; 0: no limit but
	// the format's.
	MemoryLimit int64
	// CPULimit bounds the guest's share of processors, in thousandths of a
	// core; 0: no limit.
	CPULimit int64
	// CPURequest is the guest's weight among those that are busy at the same
	// time, in thousandths of a core; 0 counts as the least there is.
	CPURequest int64
}

// Usage is what a container uses.
type Usage struct {
	CPU    time.Duration // processor time since its start
	Memory int64         // bytes that it holds now and that are free when it ends
}

// Mount shows a directory of the host (or one file of it) to the guest, which
// can never leave it.
type Mount struct {
	Source string // directory or file on the host
	// SubPath is what is mounted of the directory Source, relative to it, with
	// slashes; empty: all of it. It is resolved within Source: guests may have
	// made links there, and change them at any time.
	SubPath  string
	Target   string // absolute path in the guest
	ReadOnly bool
	// MaxBytes and MaxFiles bound what guests keep in Source, all mounts of it
	// together: bytes in blocks of 4 KiB, and names of files, directories and
	// links. A guest that wants more is told that the device is full. 0: no bound.
	MaxBytes, MaxFiles int64
	// Later, where it is set, says that Source is not there yet: a guest's first
	// look at it makes it, so that what no guest looks at costs no files. There
	// is no SubPath then.
	Later *Later
}

// Later makes the source of a mount when a guest wants to see it.
type Later struct {
	File bool // it is a file; else a directory
	// Make makes it. It is called before the first look of each guest that has
	// the mount, at any time until the container has ended and by several at
	// once: what is there already, it leaves. A guest whose call fails gets the
	// error, and its next look calls again.
	Make func() error
}

// Container is a started container. Its methods are safe for concurrent use.
type Container interface {
	// Done is closed when the container has ended and its output is flushed.
	Done() <-chan struct{}
	// Exit says how it ended; valid after Done.
	Exit() Exit
	// Stop ends the container in order: no new connections, requests in flight
	// finish, then the guest is told (its listeners end), then, after grace, it
	// is killed. A guest that has nothing to be told by is ended at once. Stop
	// returns when Done is closed or with ctx's error.
	Stop(ctx context.Context, grace time.Duration) error
	// Usage says what the container uses; after Done, what it has used.
	Usage() Usage
	// Resize changes what the container may use from now on. An error changes
	// nothing: a memory limit below what the container holds is refused.
	Resize(r Resources) error
}

// Execer is a Container in which further commands can be run.
type Execer interface {
	// Exec starts a command in the container's files, environment and network,
	// as a container of its own that ends with the one it was started in at the
	// latest. An error means that it never ran: an *ExecError that there is no
	// such program.
	Exec(ctx context.Context, e ExecSpec) (Container, error)
}

// ExecSpec is one command to run in a container.
type ExecSpec struct {
	// Args is the argv. Args[0] names a module of the container's files (a path,
	// or a name that is looked up in PATH), the image's own program, or a tool
	// that the runtime brings along: sh, ls, cat, tar and others.
	Args   []string
	Stdin  io.Reader // nil: at end of file
	Stdout io.Writer
	Stderr io.Writer
	TTY    bool                          // as in ContainerSpec
	Window func() (columns, rows uint16) // as in ContainerSpec
}

// Exit is the end of a container, in the words of ContainerStateTerminated.
type Exit struct {
	Code    int32  // 137 when killed, 143 when told to end, 128+n in general
	Reason  string // "Completed", "Error", "OOMKilled"
	Message string // for people: the trap and where it happened
	Started time.Time
	Ended   time.Time
}

// ErrConnRefused is Dial's answer for a port on which nothing listens.
var ErrConnRefused = errors.New("connection refused")

// ErrNotRunning is Exec's answer for a container that has ended.
var ErrNotRunning = errors.New("container is not running")

// ExecError says why a program cannot be run in a container.
type ExecError struct {
	Name string // Args[0]
	Code int32  // what a shell would answer: 127 not found, 126 not a program
	Text string // for people, as in "executable file not found in $PATH"
}

func (e *ExecError) Error() string { return fmt.Sprintf("exec: %q: %s", e.Name, e.Text) }

// InvalidImageError says that an image can never run on this runtime.
type InvalidImageError struct {
	Ref    string
	Reason string // for people, with the next step where there is one
}

func (e *InvalidImageError) Error() string {
	return fmt.Sprintf("image %q cannot run: %s", e.Ref, e.Reason)
}
