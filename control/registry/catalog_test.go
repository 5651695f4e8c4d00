package registry

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestCatalog holds what is served, with its short names, verbs, categories
// and subresources, against testdata/catalog.txt, so that what kubectl
// api-resources -o wide prints changes only on purpose.
func TestCatalog(t *testing.T) {
	var b strings.Builder
	for _, res := range newRegistry(t).Catalog().Resources() {
		line := fmt.Sprintf("%s %s %s %t %s %s %s", res.Name, orDash(res.ShortNames), res.GroupVersion(), res.Namespaced, res.Kind,
			orDash(res.AllVerbs()), orDash(res.Categories))
		b.WriteString(line + "\n")
		for _, sub := range res.Subresources {
			fmt.Fprintf(&b, "  /%s %s %s\n", sub.Name, orDash(sub.Verbs), sub.Kind.Kind)
		}
	}
	want, err := os.ReadFile("testdata/catalog.txt")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.ReplaceAll(b.String(), "create,delete,deletecollection,get,list,patch,update,watch", "all-verbs"), "\n")
	lines := strings.Split(string(want), "\n")
	for i := range max(len(got), len(lines)) {
		var g, w string
		if i < len(got) {
			g = strings.TrimRight(got[i], " ")
		}
		if i < len(lines) {
			w = lines[i]
		}
		if g != w {
			t.Fatalf("line %d:\n%s\nwant\n%s\nall of it:\n%s", i+1, g, w, strings.Join(got, "\n"))
		}
	}
}

func orDash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}
