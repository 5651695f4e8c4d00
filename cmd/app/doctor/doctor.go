// Package doctor looks at a machine and says what would keep a cluster from
// running well on it, each finding with its fix. It changes nothing that
// stays.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// State says how bad a finding is.
type State string

// The states. Only a Problem keeps a cluster from working.
const (
	OK      State = "ok"
	Warning State = "warning"
	Problem State = "problem"
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"`
	State State  `json:"state"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"` // what to do, where the state is not ok
}

// Machine says what is to be looked at.
type Machine struct {
	DataDir    string // need not exist
	APIAddress string // host:port that a cluster would listen on
	// Running says that the cluster of DataDir runs: its port is taken by
	// itself.
	Running bool
	// Services and Pods are the networks that a node binds addresses of.
	Services, Pods netip.Prefix
}

// Examine runs all checks, in the order in which a person should read them.
func (m Machine) Examine(ctx context.Context) []Finding {
	var findings []Finding
	for _, check := range []func(context.Context, Machine) Finding{
		platform, dataDir, space, diskSync, apiPort, addresses, openFiles, memoryMaps, clock, containerd, toolchain,
	} {
		if finding := check(ctx, m); finding.Check != "" {
			findings = append(findings, finding)
		}
	}
	return findings
}

// platform says which engine runs the guests.
func platform(context.Context, Machine) Finding {
	f := Finding{Check: "platform", State: OK, Found: fmt.Sprintf("%s/%s, %d processors, guests are compiled", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}
	if !slices.Contains([]string{"amd64", "arm64"}, runtime.GOARCH) {
		f.State = Warning
		f.Found = fmt.Sprintf("%s/%s: guests are interpreted, some 20 to 100 times slower", runtime.GOOS, runtime.GOARCH)
		f.Fix = "let the scheduler prefer nodes that compile: set CPU requests on busy pods"
	}
	return f
}

// nearest is the data directory, or the nearest directory above it that exists.
func nearest(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}

func dataDir(_ context.Context, m Machine) Finding {
	f := Finding{Check: "data directory", State: OK}
	probe, err := os.MkdirTemp(nearest(m.DataDir), ".wherry-doctor-")
	if err != nil {
		f.State, f.Found = Problem, err.Error()
		f.Fix = "choose a directory that you may write to with --data-dir or WHERRY_DATA_DIR"
		return f
	}
	if err := os.Remove(probe); err != nil {
		f.State, f.Found, f.Fix = Warning, err.Error(), "remove "+probe
		return f
	}
	_, err = os.Stat(m.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Found = m.DataDir + " will be made"
	case m.Running:
		f.Found = m.DataDir + ", its cluster runs"
	default:
		f.Found = m.DataDir
	}
	return f
}

const mib = 1 << 20

// space warns below what a cluster with some images and logs needs.
func space(_ context.Context, m Machine) Finding {
	f := Finding{Check: "disk space", State: OK}
	free, ok := freeSpace(nearest(m.DataDir))
	if !ok {
		return Finding{}
	}
	f.Found = fmt.Sprintf("%d MiB free", free/mib)
	switch {
	case free < 128*mib:
		f.State, f.Fix = Problem, "free some space: the store refuses writes on a disk that is nearly full"
	case free < 2048*mib:
		f.State, f.Fix = Warning, "images, compiled modules and logs take gigabytes on a busy node"
	}
	return f
}

// diskSync measures what bounds the store: how long the disk takes to make a
// write durable.
func diskSync(ctx context.Context, m Machine) Finding {
	f := Finding{Check: "disk sync", State: OK}
	times, err := syncTimes(ctx, nearest(m.DataDir), 32)
	if err != nil {
		f.State, f.Found, f.Fix = Problem, err.Error(), "the store needs a file system that can sync; choose another --data-dir"
		return f
	}
	slices.Sort(times)
	median, worst := times[len(times)/2], times[len(times)-1]
	f.Found = fmt.Sprintf("a durable write takes %s (median of %d, worst %s)", round(median), len(times), round(worst))
	if median > 10*time.Millisecond {
		f.State, f.Fix = Warning, "each write to the API waits for the disk: put --data-dir on an SSD"
	}
	return f
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// syncTimes writes and syncs a page n times.
func syncTimes(ctx context.Context, dir string, n int) (times []time.Duration, err error) {
	file, err := os.CreateTemp(dir, ".wherry-doctor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	page := make([]byte, 4096)
	for range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		begin := time.Now()
		if _, err := file.Write(page); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
	}
	return times, nil
}

func apiPort(ctx context.Context, m Machine) Finding {
	f := Finding{Check: "API port", State: OK, Found: m.APIAddress + " is free"}
	if m.Running {
		f.Found = m.APIAddress + " is served by this cluster"
		return f
	}
	if err := bindable(ctx, m.APIAddress); err != nil {
		f.State, f.Found = Problem, err.Error()
		f.Fix = "end the program that has it, or start with --api-address 127.0.0.1:0"
	}
	return f
}

// bindable tells whether an address can be listened on.
func bindable(ctx context.Context, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// addresses tries one address of each network that a node binds.
func addresses(ctx context.Context, m Machine) Finding {
	f := Finding{Check: "addresses", State: OK}
	for _, network := range []netip.Prefix{m.Services, m.Pods} {
		// The last but one: nothing of ours has it.
		if err := bindable(ctx, netip.AddrPortFrom(lastOf(network), 0).String()); err != nil {
			f.State, f.Found = Warning, err.Error()
			f.Fix = "pods and Services are reachable through node ports and port-forward only"
			if runtime.GOOS == "darwin" {
				f.Fix += "; or add aliases: sudo ifconfig lo0 alias ADDRESS"
			}
			return f
		}
	}
	f.Found = fmt.Sprintf("Services in %s and pods in %s can be bound", m.Services, m.Pods)
	// The first address of the Services is that of the API inside of a cluster.
	first := netip.AddrPortFrom(m.Services.Masked().Addr().Next(), 443).String()
	if err := bindable(ctx, first); errors.Is(err, syscall.EADDRINUSE) && !m.Running {
		f.State, f.Found = Warning, first+" is taken, most likely by another cluster with the same addresses"
		f.Fix = "end the other one, or start with other networks: --service-cidr 127.33.0.0/16 --pod-cidr 127.128.0.0/10"
	}
	return f
}

// lastOf is the last address but one of an IPv4 network.
func lastOf(network netip.Prefix) netip.Addr {
	a := network.Masked().Addr().As4()
	host := uint32(1)<<(32-network.Bits()) - 1
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n |= host &^ 1
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// clock compares the time with the one of the newest file that we know of: a
// clock that is behind makes certificates invalid.
func clock(_ context.Context, m Machine) Finding {
	now := time.Now()
	f := Finding{Check: "clock", State: OK, Found: now.UTC().Format(time.RFC3339)}
	if synced, known := clockSynced(); known && !synced {
		f.State, f.Found = Warning, f.Found+", not synchronised"
		f.Fix = "run a time service (timedatectl set-ntp true): nodes on other machines check certificates and leases by it"
	}
	if info, err := os.Stat(filepath.Join(m.DataDir, "WHERRY")); err == nil && info.ModTime().After(now.Add(time.Minute)) {
		f.State = Problem
		f.Found = fmt.Sprintf("%s, before the cluster was made (%s)", now.UTC().Format(time.RFC3339), info.ModTime().UTC().Format(time.RFC3339))
		f.Fix = "set the clock: certificates are not valid yet"
	}
	return f
}

// containerd looks for what would run OCI containers; wasm needs none.
func containerd(ctx context.Context, _ Machine) Finding {
	f := Finding{Check: "containerd", State: OK}
	for _, path := range []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			f.Found = path
			return joined(f, conn.Close())
		case errors.Is(err, syscall.EACCES):
			f.State, f.Found, f.Fix = Warning, path+" is not yours to use", "run as a user that may use it; wasm pods need nothing of it"
			return f
		}
	}
	f.Found = "none: this machine runs wasm pods only"
	return f
}

func joined(f Finding, err error) Finding {
	if err != nil {
		f.State, f.Found, f.Fix = Warning, err.Error(), "restart containerd"
	}
	return f
}

// toolchain looks for what "wherry dev" builds Go guests with.
func toolchain(ctx context.Context, _ Machine) Finding {
	f := Finding{Check: "Go toolchain", State: OK}
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		f.Found = "none: \"wherry dev\" cannot build Go guests here; modules run without it"
		return f
	}
	f.Found = strings.TrimSpace(string(out))
	return f
}
