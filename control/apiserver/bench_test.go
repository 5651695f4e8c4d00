package apiserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/headroom"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/natskv"
)

// benchServer makes this test's binary an API server for the benchmarks, in a
// process of its own, so that what the server costs is not mixed with what
// its clients cost. The directory it names has the authority; the server
// prints its address and ends with its standard input.
const benchServer = "WHERRY_BENCH_SERVER"

func TestMain(m *testing.M) {
	dir := os.Getenv(benchServer)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := serveBench(dir); err != nil {
		slog.Error("bench server", "error", err)
		os.Exit(1)
	}
}

// benchProfile is the file for the processor profile of that server.
const benchProfile = "WHERRY_BENCH_PROFILE"

// benchLog, set to logOnDisk, gives that server a store on the disk, as the product
// has it, in place of one in memory.
const (
	benchLog    = "WHERRY_BENCH_LOG"
	logInMemory = "memory"
	logOnDisk   = "durable"
)

// withLogs runs a benchmark with either log.
func withLogs(b *testing.B, run func(b *testing.B)) {
	for _, log := range []string{logInMemory, logOnDisk} {
		b.Run("log="+log, func(b *testing.B) {
			b.Setenv(benchLog, log)
			run(b)
		})
	}
}

// openLog returns the log of the server and runs it until ctx ends.
func openLog(ctx context.Context, dir string) (log store.Log, wait func() error, err error) {
	if os.Getenv(benchLog) != logOnDisk {
		return store.NewMemory(), func() error { return nil }, nil
	}
	bucket, err := natskv.Open(ctx, natskv.Config{Dir: filepath.Join(dir, "store")})
	if err != nil {
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() { done <- bucket.Run(ctx) }()
	return bucket, func() error { return <-done }, nil
}

func serveBench(dir string) error {
	var kept sync.WaitGroup
	defer kept.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if name := os.Getenv(benchProfile); name != "" {
		file, err := os.Create(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); writeHeap(); cancel() }()
	kept.Go(func() { headroom.Keep(ctx) }) // as the product does
	types, err := api.NewTypes()
	if err != nil {
		return err
	}
	log, ended, err := openLog(ctx, dir)
	if err != nil {
		return err
	}
	st := store.New(log, store.Options{})
	done := make(chan error, 1)
	go func() { done <- errors.Join(st.Run(ctx), ended()) }()
	reg, err := registry.New(registry.Config{Store: st, Types: types})
	if err == nil {
		err = reg.Bootstrap(ctx)
	}
	if err != nil {
		return err
	}
	ca, err := auth.OpenCA(dir, time.Now)
	if err != nil {
		return err
	}
	server, err := apiserver.New(apiserver.Config{Client: reg, Types: types, Kinds: reg, Tables: reg,
		Authenticator: auth.NewClientCertificates(ca.Pool(), time.Now), Authorizer: auth.Masters{}})
	if err != nil {
		return err
	}
	config, err := ca.ServerTLS("apiserver", []string{"127.0.0.1"})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Println(listener.Addr()); err != nil {
		return err
	}
	if err := server.Serve(ctx, listener, config); err != nil {
		return err
	}
	return <-done
}

// bench is a server in another process, and its clients.
type bench struct {
	b       *testing.B
	pid     int
	url     string
	clients []*http.Client
	codec   apiruntime.Encoder
}

func newBench(b *testing.B, clients int) *bench {
	b.Helper()
	s, end := startBench(b, b.TempDir(), clients)
	b.Cleanup(end)
	return s
}

// startBench starts a server on a directory; end stops it and waits for that.
func startBench(b *testing.B, dir string, clients int) (s *bench, end func()) {
	b.Helper()
	if runtime.GOOS != "linux" {
		b.Skip("the processor time of another process is read from /proc")
	}
	ca, err := auth.OpenCA(dir, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env, cmd.Stderr = append(os.Environ(), benchServer+"="+dir), os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	end = sync.OnceFunc(func() { _ = stdin.Close(); _ = cmd.Wait() })
	b.Cleanup(end)
	types, err := api.NewTypes()
	if err != nil {
		b.Fatal(err)
	}
	info, _ := apiruntime.SerializerInfoForMediaType(types.Codecs.SupportedMediaTypes(), apiruntime.ContentTypeProtobuf)
	out := &bench{b: b, pid: cmd.Process.Pid, codec: types.Codecs.EncoderForVersion(info.Serializer, corev1.SchemeGroupVersion)}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatalf("the server has ended before it listens (%v); what it has written above says why", err)
	}
	out.url = "https://" + strings.TrimSpace(address)
	credential, err := ca.Client(auth.Admin())
	if err != nil {
		b.Fatal(err)
	}
	pair, err := credential.TLS()
	if err != nil {
		b.Fatal(err)
	}
	for range clients {
		transport := &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true,
			TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}}}
		b.Cleanup(transport.CloseIdleConnections)
		out.clients = append(out.clients, &http.Client{Transport: transport})
	}
	return out, end
}

// cpu is the processor time that the server has used.
func (s *bench) cpu() time.Duration { return s.timeOf(s.pid) }

// timeOf is the processor time of a process; this one's is the clients'.
func (s *bench) timeOf(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		s.b.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 1/100 s
}

func (s *bench) ask(client *http.Client, method, path string, body []byte) []byte {
	request, err := http.NewRequestWithContext(context.Background(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.b.Error(err)
		return nil
	}
	request.Header.Set("Accept", apiruntime.ContentTypeProtobuf)
	request.Header.Set("Content-Type", apiruntime.ContentTypeProtobuf)
	request.Header.Set("User-Agent", "bench/1")
	answer, err := client.Do(request)
	if err != nil {
		s.b.Error(err)
		return nil
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		s.b.Errorf("%s %s: %d, %v", method, path, answer.StatusCode, err)
	}
	return data
}

// pod is one as a controller makes it.
func (s *bench) pod(name string) []byte {
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web", "pod-template-hash": "5d69b8c7f"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d69b8c7f", UID: "3c0f0e5e-6a51-4f43-9d3a-3f4d1ea2a7c1"}}},
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "web", Image: "hello:v1",
			Ports: []corev1.ContainerPort{{ContainerPort: 8080}}, Env: []corev1.EnvVar{{Name: "MODE", Value: "quiet"}}}}},
	}
	var out bytes.Buffer
	if err := s.codec.Encode(pod, &out); err != nil {
		s.b.Fatal(err)
	}
	return out.Bytes()
}

// each spreads n calls over the clients.
func (s *bench) each(n int, call func(client *http.Client, i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for _, client := range s.clients {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				call(client, int(i))
			}
		})
	}
	all.Wait()
}

// collection is where the pods are.
const collection = "/api/v1/namespaces/default/pods"

// measure runs n calls and reports what one costs the server.
func (s *bench) measure(n int, call func(client *http.Client, i int)) {
	s.b.ResetTimer()
	before, own, began := s.cpu(), s.timeOf(os.Getpid()), time.Now()
	s.each(n, call)
	s.b.StopTimer()
	s.b.ReportMetric(float64((s.timeOf(os.Getpid())-own).Microseconds())/float64(n), "client-us/op")
	s.b.ReportMetric(float64((s.cpu()-before).Microseconds())/float64(n), "server-us/op")
	s.b.ReportMetric(float64(n)/time.Since(began).Seconds(), "ops/s")
}

// BenchmarkServerCreate creates pods by 16 clients, in protobuf, on a log in
// memory (what the API costs, without the disk) or on the disk.
func BenchmarkServerCreate(b *testing.B) {
	withLogs(b, func(b *testing.B) {
		s := newBench(b, 16)
		bodies := make([][]byte, b.N)
		for i := range bodies {
			bodies[i] = s.pod(fmt.Sprintf("web-%d", i))
		}
		s.measure(b.N, func(client *http.Client, i int) { s.ask(client, "POST", collection, bodies[i]) })
	})
}

// BenchmarkServerGet reads pods by 16 clients.
func BenchmarkServerGet(b *testing.B) {
	s := newBench(b, 16)
	s.each(100, func(client *http.Client, i int) { s.ask(client, "POST", collection, s.pod(fmt.Sprintf("web-%d", i))) })
	s.measure(b.N, func(client *http.Client, i int) {
		s.ask(client, "GET", fmt.Sprintf("%s/web-%d", collection, i%100), nil)
	})
}

// BenchmarkServerList lists 5,000 pods by one client.
func BenchmarkServerList(b *testing.B) {
	s := newBench(b, 16)
	s.each(5000, func(client *http.Client, i int) { s.ask(client, "POST", collection, s.pod(fmt.Sprintf("web-%d", i))) })
	s.clients = s.clients[:1]
	s.measure(b.N, func(client *http.Client, _ int) { s.ask(client, "GET", collection, nil) })
}
