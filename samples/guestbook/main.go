// Command guestbook is the three tiers of a guestbook in one program, told
// apart by the first argument:
//
//	frontend   HTML for people; asks the API
//	api        JSON; checks what is written and asks the state
//	state      keeps the entries
//
// It is built by the stock Go toolchain,
//
//	GOOS=wasip1 GOARCH=wasm go build -o guestbook.wasm ./samples/guestbook
//
// and dials by package guest, which works outside of WebAssembly too.
package main

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"

	"wherry.dev/wherry/runtime/guest"
	"wherry.dev/wherry/runtime/guest/guesthttp"
)

// maxEntry is how long an entry may be, in bytes; maxEntries is how many of the
// newest are kept.
const (
	maxEntry   = 280
	maxEntries = 100
)

func main() {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	upstream := upstream{url: os.Getenv("UPSTREAM"), client: guesthttp.Client()}
	handlers := map[string]http.Handler{"frontend": frontend{upstream}, "api": api{upstream}, "state": &state{}}
	handler, ok := handlers[role]
	if !ok {
		log.Fatalf("guestbook: the first argument is %q: want frontend, api or state", role)
	}
	listener, err := guest.Listen("tcp", ":8080")
	if err != nil {
		log.Fatalf("guestbook: %v", err)
	}
	log.Printf("%s listens on %s", role, listener.Addr())
	log.Printf("%s ends: %v", role, http.Serve(listener, handler))
}

// upstream is the tier below.
type upstream struct {
	url    string
	client *http.Client
}

// entries asks the tier below for all entries.
func (u upstream) entries() (entries []string, err error) {
	answer, err := u.client.Get(u.url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", u.url, answer.Status)
	}
	return entries, json.NewDecoder(answer.Body).Decode(&entries)
}

// add gives the tier below an entry, and its complaint back.
func (u upstream) add(entry string) (code int, complaint string, err error) {
	answer, err := u.client.Post(u.url, "text/plain; charset=utf-8", strings.NewReader(entry))
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	return answer.StatusCode, string(text), err
}

// frontend is for people.
type frontend struct{ api upstream }

// page shows the entries; whoever has written them, they are text and no HTML.
func page(entries []string) string {
	var b strings.Builder
	b.WriteString(`<!doctype html>
<meta charset="utf-8"><title>Guestbook</title>
<h1>Guestbook</h1>
<form method="post"><input name="entry" maxlength="280" autofocus> <button>Sign</button></form>
<ul>
`)
	for _, entry := range entries {
		fmt.Fprintf(&b, "<li>%s</li>\n", html.EscapeString(entry))
	}
	b.WriteString("</ul>\n")
	return b.String()
}

func (f frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		code, complaint, err := f.api.add(r.FormValue("entry"))
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadGateway)
		case code != http.StatusCreated:
			http.Error(w, complaint, code)
		default:
			http.Redirect(w, r, "/", http.StatusSeeOther)
		}
		return
	}
	entries, err := f.api.entries()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, page(entries))
}

// api checks what goes to the state.
type api struct{ state upstream }

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEntry))
		entry := strings.TrimSpace(string(text))
		if err != nil || entry == "" {
			http.Error(w, fmt.Sprintf("an entry has 1 to %d bytes", maxEntry), http.StatusBadRequest)
			return
		}
		code, complaint, err := a.state.add(entry)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, complaint)
		return
	}
	entries, err := a.state.entries()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(entries)
}

// state keeps the newest entries, the newest first.
type state struct {
	mu      sync.Mutex
	entries []string
}

func (s *state) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.entries = append([]string{string(text)}, s.entries...)
		s.entries = s.entries[:min(len(s.entries), maxEntries)]
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(append([]string{}, s.entries...))
}
