package module

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModulesAreBounded(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "huge.wasm")
	if err := os.WriteFile(huge, []byte("\x00asm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, maxModule+1); err != nil {
		t.Fatal(err)
	}
	a := newAsm()
	a.fn("run", "", "", "", strings.Repeat("\x01", maxBody))
	long, longSum := file(t, a.bytes())
	for name, tc := range map[string]struct{ path, sum, want string }{
		"a huge file":     {huge, "sha256:0123abcd", "more than the 268435456"},
		"a long function": {long, longSum, "function 0 has"},
	} {
		err := newCache(t, Config{}).Prepare(context.Background(), tc.path, tc.sum)
		var bad *InvalidError
		if !errors.As(err, &bad) || !strings.Contains(bad.Reason, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
