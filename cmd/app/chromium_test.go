package app_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// browser is one page of a headless Chromium, driven by the DevTools protocol
// (https://chromedevtools.github.io/devtools-protocol/).
type browser struct {
	t       *testing.T
	conn    *websocket.Conn
	session string
	ended   chan struct{} // the reader has ended

	writing sync.Mutex
	mu      sync.Mutex
	next    int
	answers map[int]chan devtools
	errors  []string // what the page's console and log complain of
}

// devtools is a message of the protocol, in either direction.
type devtools struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// newBrowser starts a Chromium, or skips the test where there is none.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("this machine has no Chromium: the web page is not looked at")
	}
	// Chromium writes there for a moment after its end, which t.TempDir would
	// take amiss.
	profile, err := os.MkdirTemp("", "wherry-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio", "--window-size=1280,800",
		"--remote-debugging-port=0", "--user-data-dir="+profile, "about:blank")
	complaints, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // by its pid; its children end with it
		<-drained
		_ = cmd.Wait()
	})
	address := make(chan string, 1)
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(complaints)
		for lines.Scan() {
			if url, ok := strings.CutPrefix(lines.Text(), "DevTools listening on "); ok {
				address <- url
			}
		}
		_, _ = io.Copy(io.Discard, complaints)
	}()
	var url string
	select {
	case url = <-address:
	case <-drained:
		t.Fatal("Chromium ended before it said where it listens")
	case <-time.After(clustertest.Patience):
		t.Fatal("Chromium does not say where it listens")
	}
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, conn: conn, ended: make(chan struct{}), answers: map[int]chan devtools{}}
	t.Cleanup(func() { _ = conn.Close(); <-b.ended })
	go b.read()
	b.attach()
	return b
}

// attach opens a page and listens to what it complains of.
func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.ask("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.ask("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Performance"} {
		b.ask(domain+".enable", nil, nil)
	}
}

// read gives answers to those who wait and keeps complaints.
func (b *browser) read() {
	defer close(b.ended)
	for {
		var message devtools
		if err := b.conn.ReadJSON(&message); err != nil {
			b.mu.Lock()
			for id, wait := range b.answers {
				close(wait)
				delete(b.answers, id)
			}
			b.mu.Unlock()
			return
		}
		b.mu.Lock()
		if wait := b.answers[message.ID]; wait != nil && message.Method == "" {
			wait <- message
			delete(b.answers, message.ID)
		}
		if complaint := complaintOf(message); complaint != "" {
			b.errors = append(b.errors, complaint)
		}
		b.mu.Unlock()
	}
}

// complaintOf is the error that a message reports, if any.
func complaintOf(message devtools) string {
	var params struct {
		Type  string
		Entry struct{ Level, Text, URL string }
	}
	switch message.Method {
	case "Runtime.exceptionThrown":
		return string(message.Params)
	case "Runtime.consoleAPICalled":
		if json.Unmarshal(message.Params, &params) == nil && (params.Type == "error" || params.Type == "assert") {
			return string(message.Params)
		}
	case "Log.entryAdded":
		if json.Unmarshal(message.Params, &params) == nil && params.Entry.Level == "error" {
			return params.Entry.Text + " " + params.Entry.URL
		}
	}
	return ""
}

// ask sends a command and decodes its answer.
func (b *browser) ask(method string, params any, answer any) {
	b.t.Helper()
	if err := b.try(method, params, answer); err != nil {
		b.t.Fatal(err)
	}
}

// try is ask for commands that may fail.
func (b *browser) try(method string, params any, answer any) error {
	if params == nil {
		params = struct{}{}
	}
	encoded, err := json.Marshal(params)
	if err != nil {
		return err
	}
	wait := make(chan devtools, 1)
	b.mu.Lock()
	b.next++
	id := b.next
	b.answers[id] = wait
	b.mu.Unlock()
	b.writing.Lock()
	err = b.conn.WriteJSON(devtools{ID: id, SessionID: b.session, Method: method, Params: encoded})
	b.writing.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case message, ok := <-wait:
		switch {
		case !ok:
			return fmt.Errorf("%s: Chromium is gone", method)
		case message.Error != nil:
			return fmt.Errorf("%s: %s", method, message.Error.Message)
		case answer != nil:
			return json.Unmarshal(message.Result, answer)
		}
		return nil
	case <-time.After(clustertest.Patience):
		return fmt.Errorf("%s: no answer", method)
	}
}

// eval runs an expression in the page and returns its value as JSON.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.ask("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, answer.ExceptionDetails)
	}
	return string(answer.Result.Value)
}

// until waits until a condition holds in the page, whatever it navigates to
// meanwhile.
func (b *browser) until(condition string) {
	b.t.Helper()
	expression := "(() => { try { return Boolean(" + condition + "); } catch (e) { return false; } })()"
	for end := time.Now().Add(clustertest.Patience); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		var answer struct{ Result struct{ Value bool } }
		if err := b.try("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer); err == nil && answer.Result.Value {
			return
		}
	}
	b.shoot("failed")
	b.t.Fatalf("never true in the page: %s\nIts text:\n%s", condition, b.eval("document.body.innerText.slice(0, 2000)"))
}

// open goes to an address and returns how long the page took until a condition
// held.
func (b *browser) open(url, condition string) time.Duration {
	b.t.Helper()
	began := time.Now()
	b.ask("Page.navigate", map[string]any{"url": url}, nil)
	b.until(condition)
	return time.Since(began)
}

// key presses a key, as a person does.
func (b *browser) key(key string) {
	b.t.Helper()
	press := map[string]any{"type": "keyDown", "key": key}
	switch {
	case key == "Enter":
		press["text"], press["windowsVirtualKeyCode"] = "\r", 13
	case len(key) == 1:
		press["text"] = key
	}
	b.ask("Input.dispatchKeyEvent", press, nil)
	b.ask("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key}, nil)
}

// shoot keeps a picture of the page in the test's own directory.
func (b *browser) shoot(name string) {
	b.t.Helper()
	var picture struct{ Data string }
	b.ask("Page.captureScreenshot", nil, &picture)
	png, err := base64.StdEncoding.DecodeString(picture.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.t.ArtifactDir(), name+".png")
	if err := os.WriteFile(file, png, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("%s: %d KiB", file, len(png)>>10)
}

// heap is the memory of the page's objects in MiB, after a collection.
func (b *browser) heap() float64 {
	b.t.Helper()
	b.ask("HeapProfiler.collectGarbage", nil, nil)
	var answer struct {
		Metrics []struct {
			Name  string
			Value float64
		}
	}
	b.ask("Performance.getMetrics", nil, &answer)
	for _, m := range answer.Metrics {
		if m.Name == "JSHeapUsedSize" {
			return m.Value / (1 << 20)
		}
	}
	b.t.Fatal("Chromium does not tell the size of the heap")
	return 0
}

// quiet fails the test for what the page has complained of.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, complaint := range b.errors {
		b.t.Errorf("the page's console: %s", complaint)
	}
	b.errors = nil
}

// dashboardLink runs "wherry dashboard" and returns the link that it prints.
func dashboardLink(t *testing.T, c *clustertest.Cluster) string {
	t.Helper()
	cmd := c.Command("dashboard", "--no-open")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if link := regexp.MustCompile(`http://\S+`).FindString(lines.Text()); link != "" {
			return link
		}
	}
	t.Fatal("wherry dashboard prints no link")
	return ""
}
