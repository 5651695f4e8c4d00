package app_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/samples"
)

// hundred is a Deployment of many pods, with a Service.
const hundred = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: %d
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      containers: [{name: web, image: "hello:v1", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: many}
spec: {selector: {app: many}, ports: [{port: 80, targetPort: 8080}]}
`

// loaded holds when the page knows all kinds and is connected.
const loaded = `globalThis.wherry && Object.values(wherry.world).filter((c) => c.records).every((c) => c.loaded) && document.getElementById("link").className === "live"`

// oneLine holds when the header of the page has not wrapped, with its largest
// numbers in it.
const oneLine = `document.querySelector("header").offsetHeight < 60`

// TestPage looks at the web page as a person would, in a real Chromium: without
// a pod and with 100, scaling and deleting them from it by the keys.
func TestPage(t *testing.T) {
	b := newBrowser(t)
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	link := dashboardLink(t, c)

	t.Logf("0 pods: loaded after %v, heap %.1f MiB", b.open(link, loaded), b.heap())
	b.until(`document.querySelector(".cards").innerText.includes("1/1")`)
	b.shoot("0-pods")
	b.eval(`location.hash = "pods"`)
	b.until(`document.querySelector(".empty").innerText.includes("No pods here")`)

	const pods = 100
	c.Apply(fmt.Sprintf(hundred, pods))
	b.until(fmt.Sprintf(`wherry.world.list("pods", (p) => p.level === "good").length === %d`, pods))
	t.Logf("%d pods: loaded after %v, heap %.1f MiB", pods, b.open(link, loaded), b.heap())
	b.eval(`location.hash = "pods"`)
	b.until(`document.querySelectorAll(".row").length > 10`)
	b.until(oneLine)
	b.shoot("100-pods")

	// The way of a start: of the first pod.
	b.key("j")
	b.key("t")
	b.until(`document.querySelectorAll("#drawer .waterfall .bar").length >= 4`)
	b.shoot("start")
	b.ask("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}}, nil)
	b.until(`getComputedStyle(document.body).backgroundColor === "rgb(20, 20, 19)"`)
	b.shoot("start-dark")
	b.ask("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{}}, nil)
	b.until(`Math.abs(document.querySelector(".head > :last-child").getBoundingClientRect().right - document.querySelector(".row > :last-child").getBoundingClientRect().right) < 1`)
	b.key("Escape")

	// Scale and delete, by the keys.
	b.eval(`location.hash = "workloads"`)
	b.until(`document.querySelectorAll(".row").length === 1`)
	b.key("j")
	b.key("s")
	b.until(`document.getElementById("dialog").open && document.activeElement.tagName === "INPUT"`)
	b.eval(`document.activeElement.select()`)
	b.ask("Input.insertText", map[string]any{"text": "3"}, nil)
	b.key("Enter")
	b.until(`wherry.world.pods.records.size === 3 && wherry.world.list("deployments")[0].ready === 3`)
	b.key("d")
	b.until(`document.getElementById("dialog").open`)
	b.key("Enter")
	b.until(`wherry.world.deployments.records.size === 0 && wherry.world.pods.records.size === 0`)
	b.quiet()
}

// TestPageWithManyPods runs with WHERRY_PAGE_PODS=10000, on nodes that only
// report.
func TestPageWithManyPods(t *testing.T) {
	pods, err := strconv.Atoi(os.Getenv("WHERRY_PAGE_PODS"))
	if err != nil || pods < 1 {
		t.Skip("WHERRY_PAGE_PODS does not say how many")
	}
	b := newBrowser(t)
	c := clustertest.New(t, clustertest.Nodes(0))
	crowd := bench.Crowd{Client: c.Client, Nodes: 20, Zones: 3, Pods: true}
	if err := crowd.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var alive sync.WaitGroup
	defer alive.Wait()
	defer stop()
	alive.Go(func() {
		if err := crowd.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	link := dashboardLink(t, c)
	b.open(link, loaded)
	if _, err := (bench.Flood{Client: c.Client, Namespace: "default", Pods: pods}).Run(ctx, "many"); err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf(`wherry.world.list("pods", (p) => p.level === "good").length === %d`, pods)
	b.until(all) // the page that was open has followed
	t.Logf("%d pods: loaded after %v, heap %.1f MiB", pods, b.open(link, loaded+" && "+all), b.heap())
	b.until(oneLine)
	b.shoot("overview")
	b.eval(`location.hash = "pods"`)
	b.until(`document.querySelectorAll(".row").length > 10`)
	t.Logf("an update of the table takes %s ms, one of the overview %s ms, a search %s ms", b.eval(took("wherry.view.update()")),
		b.eval(took(`wherry.views.overview.update()`)), b.eval(took(`document.getElementById("search").value = "many 77"; wherry.view.update()`)))
	b.eval(`document.getElementById("search").value = ""; wherry.view.update(); document.querySelector(".body").scrollTop = 1e9`)
	b.until(`document.querySelectorAll(".row").length > 10`)
	b.shoot("pods")
	b.quiet()
}

// took is an expression that says how long some code runs, in ms.
func took(code string) string {
	return `(() => { const begin = performance.now(); ` + code + `; return Math.round(10 * (performance.now() - begin)) / 10; })()`
}
