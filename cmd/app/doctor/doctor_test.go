package doctor

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func machine(t *testing.T) Machine {
	return Machine{DataDir: filepath.Join(t.TempDir(), "not", "there"), APIAddress: "127.0.0.1:0",
		Services: netip.MustParsePrefix("127.32.0.0/16"), Pods: netip.MustParsePrefix("127.64.0.0/10")}
}

func TestExamine(t *testing.T) {
	m := machine(t)
	findings := m.Examine(t.Context())
	if len(findings) < 8 {
		t.Errorf("only %d findings: %v", len(findings), findings)
	}
	for _, f := range findings {
		if f.Found == "" || f.State == "" {
			t.Errorf("%q says nothing: %+v", f.Check, f)
		}
		if f.State != OK && f.Fix == "" {
			t.Errorf("%q names no fix: %+v", f.Check, f)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(m.DataDir)), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTakenPortIsAProblem(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := machine(t)
	m.APIAddress = l.Addr().String()
	if f := apiPort(t.Context(), m); f.State != Problem || !strings.Contains(f.Fix, "--api-address") {
		t.Errorf("got %+v", f)
	}
	m.Running = true
	if f := apiPort(t.Context(), m); f.State != OK {
		t.Errorf("its own port is a problem: %+v", f)
	}
}

func TestDataDirBelowAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The nearest directory above the file can be written: what cannot be made
	// is found when the directory is.
	if got := nearest(filepath.Join(file, "below")); got != filepath.Dir(file) {
		t.Errorf("nearest is %s", got)
	}
}

func TestClockBeforeTheClusterIsAProblem(t *testing.T) {
	m := machine(t)
	if err := os.MkdirAll(m.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(m.DataDir, "WHERRY")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(marker, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if f := clock(t.Context(), m); f.State != Problem {
		t.Errorf("got %+v", f)
	}
}

func TestLastOf(t *testing.T) {
	for network, want := range map[string]string{"127.32.0.0/16": "127.32.255.254", "127.64.0.0/10": "127.127.255.254", "127.1.2.0/30": "127.1.2.2"} {
		if got := lastOf(netip.MustParsePrefix(network)); got.String() != want {
			t.Errorf("lastOf(%s) = %s, want %s", network, got, want)
		}
	}
}

// TestTakenServiceAddress tells of another cluster with the same networks.
func TestTakenServiceAddress(t *testing.T) {
	m := machine(t)
	m.Services = netip.MustParsePrefix("127.250.17.0/24")
	l, err := net.Listen("tcp", "127.250.17.1:443")
	if err != nil {
		t.Skip("this machine has no such address, or its port 443 is not for everybody: ", err)
	}
	defer l.Close()
	if f := addresses(t.Context(), m); f.State != Warning || !strings.Contains(f.Fix, "--service-cidr") {
		t.Errorf("got %+v", f)
	}
	m.Running = true
	if f := addresses(t.Context(), m); f.State != OK {
		t.Errorf("its own address is a finding: %+v", f)
	}
}
