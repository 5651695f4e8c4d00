package store

import (
	"context"
	"fmt"
	"slices"
)

// keptViews is how many views of unfinished paged lists are remembered. A
// page of an older list is served too, at the price of undoing history.
const keptViews = 64

// ListOptions selects from the keys under a prefix.
type ListOptions struct {
	Limit    int    // entries per page, 0: all
	After    string // start after this key: the last one of the previous page
	Revision uint64 // the state to list, 0: the newest
}

// Page is the entries under a prefix, or some of them, in key order.
type Page struct {
	Entries   []*Entry
	Revision  uint64 // the whole list is the state at this revision
	More      bool   // entries follow after the last one
	Remaining int    // how many
}

// view is the state of all keys at one revision.
type view struct {
	root     *node
	revision uint64
}

// Get returns the newest entry of a key, or ErrNotFound.
func (s *Store) Get(ctx context.Context, key string) (*Entry, error) {
	if err := s.WaitReady(ctx); err != nil {
		return nil, err
	}
	if e := s.view.Load().root.get(key); e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("get %q: %w", key, ErrNotFound)
}

// List returns the entries under a prefix as they were at one revision. It
// takes no lock and copies no value. ErrCompacted: the revision is older than
// the history; ErrFutureRevision: it has not been given out yet.
func (s *Store) List(ctx context.Context, prefix string, opts ListOptions) (*Page, error) {
	if err := s.WaitReady(ctx); err != nil {
		return nil, err
	}
	v, err := s.viewAt(opts.Revision)
	if err != nil {
		return nil, err
	}
	page := v.page(prefix, opts)
	if page.More {
		s.keepView(v)
	}
	return page, nil
}

func (v *view) page(prefix string, opts ListOptions) *Page {
	from := prefix
	if opts.After != "" {
		// The successor of a string in byte order; it may lie before the prefix.
		from = max(prefix, opts.After+"\x00")
	}
	end, start := v.root.size(), v.root.rank(from)
	if limit, ok := afterPrefix(prefix); ok {
		end = v.root.rank(limit)
	}
	total := max(0, end-start)
	n := total
	if opts.Limit > 0 {
		n = min(n, opts.Limit)
	}
	page := &Page{Revision: v.revision, More: n < total, Remaining: total - n}
	if n == 0 {
		return page
	}
	page.Entries = make([]*Entry, 0, n)
	v.root.ascend(from, func(e *Entry) bool {
		page.Entries = append(page.Entries, e)
		return len(page.Entries) < n
	})
	return page
}

// viewAt returns the state at a revision: the newest, a remembered one, or one
// made by undoing the events after it.
func (s *Store) viewAt(revision uint64) (*view, error) {
	v := s.view.Load()
	if revision == 0 || revision == v.revision {
		return v, nil
	}
	if revision > v.revision {
		return nil, fmt.Errorf("list at %d, newest is %d: %w", revision, v.revision, ErrFutureRevision)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if revision < s.history.compacted {
		return nil, fmt.Errorf("list at %d, oldest is %d: %w", revision, s.history.compacted, ErrCompacted)
	}
	if i := slices.IndexFunc(s.views, func(k *view) bool { return k.revision == revision }); i >= 0 {
		return s.views[i], nil
	}
	return s.undo(revision)
}

// undo makes the view at a revision from the newest one. It holds the lock for
// reading only where it looks at history, and a step at a time.
func (s *Store) undo(revision uint64) (*view, error) {
	v := s.view.Load()
	root, stop := v.root, s.history.after(revision)
	for end := s.history.end(); end > stop; {
		if stop < s.history.base {
			return nil, fmt.Errorf("list at %d, oldest is %d: %w", revision, s.history.compacted, ErrCompacted)
		}
		start := max(stop, end-min(end, extendStep))
		events := slices.Clone(s.history.events[start-s.history.base : end-s.history.base])
		s.mu.RUnlock()
		for _, e := range slices.Backward(events) {
			if e.Prev == nil {
				root = root.without(e.Entry.Key)
			} else {
				root = root.with(e.Prev)
			}
		}
		end = start
		s.mu.RLock()
	}
	return &view{root: root, revision: revision}, nil
}

// keepView remembers a view for the next pages of a list.
func (s *Store) keepView(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.revision < s.history.compacted || slices.ContainsFunc(s.views, func(k *view) bool { return k.revision == v.revision }) {
		return
	}
	if len(s.views) == keptViews {
		s.views = slices.Delete(s.views, 0, 1)
	}
	s.views = append(s.views, v)
}

// dropViews forgets the views that are older than the history, which is what
// keeps their superseded values in memory. The caller holds the lock.
func (s *Store) dropViews() {
	if len(s.views) > 0 {
		s.views = slices.DeleteFunc(s.views, func(k *view) bool { return k.revision < s.history.compacted })
	}
}
