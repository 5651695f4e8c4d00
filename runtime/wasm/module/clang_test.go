package module

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// clangKernels needs no C library: what a C toolchain makes of loops, calls,
// memory and (with -mbulk-memory) memory.copy.
const clangKernels = `
static double a[256*256], b[256*256], c[256*256];
static unsigned char flags[4<<20];
static int v[1<<20];
__attribute__((export_name("matmul"))) int matmul(int n) {
	for (int i = 0; i < n*n; i++) { a[i] = i % 7; b[i] = i % 5; }
	for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
		double s = 0;
		for (int k = 0; k < n; k++) s += a[i*n+k] * b[k*n+j];
		c[i*n+j] = s;
	}
	double t = 0;
	for (int i = 0; i < n*n; i++) t += c[i];
	return (int)t;
}
__attribute__((export_name("sieve"))) int sieve(int n) {
	int count = 0;
	__builtin_memset(flags, 1, n);
	for (int i = 2; i < n; i++) if (flags[i]) {
		count++;
		for (int j = i+i; j < n; j += i) flags[j] = 0;
	}
	return count;
}
static void quick(int *p, int n) {
	if (n < 2) return;
	int pivot = p[n/2], i = 0, j = n-1;
	for (;;) {
		while (p[i] < pivot) i++;
		while (p[j] > pivot) j--;
		if (i >= j) break;
		int t = p[i]; p[i++] = p[j]; p[j--] = t;
	}
	quick(p, i); quick(p+i, n-i);
}
__attribute__((export_name("sort"))) int sort(int n) {
	unsigned x = 1;
	for (int i = 0; i < n; i++) { x = x*1664525+1013904223; v[i] = x >> 8; }
	quick(v, n);
	for (int i = 1; i < n; i++) if (v[i-1] > v[i]) return -1;
	return v[n/2];
}
`

// clangModule compiles a C file without a library, or skips where there is no
// clang that knows wasm32.
func clangModule(t testing.TB, source string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "k.c"), filepath.Join(dir, "k.wasm")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("clang", "--target=wasm32", "-O2", "-nostdlib", "-mbulk-memory", "-Wl,--no-entry", "-o", out, in)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("clang cannot build for wasm32 here: %v %s", err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestClangKernels(t *testing.T) {
	h := newHost(t, Config{})
	mod := instance(t, h.load(t, clangModule(t, clangKernels)), Limits{})
	ctx := WithMeter(context.Background(), NewMeter(0))
	for name, tc := range map[string]struct{ arg, want uint64 }{
		"matmul": {64, 1549312}, "sieve": {1000, 168}, "sort": {1000, 0},
	} {
		out, err := mod.ExportedFunction(name).Call(ctx, tc.arg)
		if err != nil {
			t.Fatal(err)
		}
		if name == "sort" && int32(out[0]) <= 0 || name == "sieve" && out[0] != tc.want {
			t.Errorf("%s(%d) = %d, want %d", name, tc.arg, int32(out[0]), tc.want)
		}
	}
}
