package store

import "strings"

// node is a weight-balanced search tree (Adams 1993, with the parameters that
// Hirai and Yamamoto proved right in 2011) whose nodes are never changed: a
// write copies the path to the root. So a root is a consistent view of all
// keys for as long as somebody holds it, readers need no lock, and the sizes
// that keep it balanced also count a range without walking it.
type node struct {
	entry       *Entry
	left, right *node
	count       int
}

const (
	treeDelta = 3
	treeRatio = 2
)

func (n *node) size() int {
	if n == nil {
		return 0
	}
	return n.count
}

func join(e *Entry, l, r *node) *node {
	return &node{entry: e, left: l, right: r, count: l.size() + r.size() + 1}
}

// balance joins two trees of which one has changed by at most one entry.
func balance(e *Entry, l, r *node) *node {
	switch nl, nr := l.size(), r.size(); {
	case nl+nr <= 1:
		return join(e, l, r)
	case nr > treeDelta*nl:
		if r.left.size() < treeRatio*r.right.size() {
			return join(r.entry, join(e, l, r.left), r.right)
		}
		return join(r.left.entry, join(e, l, r.left.left), join(r.entry, r.left.right, r.right))
	case nl > treeDelta*nr:
		if l.right.size() < treeRatio*l.left.size() {
			return join(l.entry, l.left, join(e, l.right, r))
		}
		return join(l.right.entry, join(l.entry, l.left, l.right.left), join(e, l.right.right, r))
	default:
		return join(e, l, r)
	}
}

func (n *node) get(key string) *Entry {
	for n != nil {
		switch c := strings.Compare(key, n.entry.Key); {
		case c == 0:
			return n.entry
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return nil
}

// with returns the tree in which e stands under its key.
func (n *node) with(e *Entry) *node {
	if n == nil {
		return join(e, nil, nil)
	}
	switch c := strings.Compare(e.Key, n.entry.Key); {
	case c == 0:
		return join(e, n.left, n.right)
	case c < 0:
		return balance(n.entry, n.left.with(e), n.right)
	default:
		return balance(n.entry, n.left, n.right.with(e))
	}
}

// without returns the tree that lacks key.
func (n *node) without(key string) *node {
	if n == nil {
		return nil
	}
	switch c := strings.Compare(key, n.entry.Key); {
	case c < 0:
		return balance(n.entry, n.left.without(key), n.right)
	case c > 0:
		return balance(n.entry, n.left, n.right.without(key))
	case n.left == nil:
		return n.right
	case n.right == nil:
		return n.left
	case n.left.size() > n.right.size():
		e := n.left.last()
		return balance(e, n.left.without(e.Key), n.right)
	default:
		e := n.right.first()
		return balance(e, n.left, n.right.without(e.Key))
	}
}

func (n *node) first() *Entry {
	for n.left != nil {
		n = n.left
	}
	return n.entry
}

func (n *node) last() *Entry {
	for n.right != nil {
		n = n.right
	}
	return n.entry
}

// rank counts the entries whose key is less than key.
func (n *node) rank(key string) int {
	rank := 0
	for n != nil {
		if n.entry.Key < key {
			rank += n.left.size() + 1
			n = n.right
		} else {
			n = n.left
		}
	}
	return rank
}

// ascend calls f with the entries from key on, in key order, until f is done
// (returns false); it reports whether f was never done.
func (n *node) ascend(from string, f func(*Entry) bool) bool {
	if n == nil {
		return true
	}
	if n.entry.Key < from {
		return n.right.ascend(from, f)
	}
	return n.left.ascend(from, f) && f(n.entry) && n.right.walk(f)
}

// walk calls f with all entries as ascend does. It does not look into them,
// which would be most of the cost of a long list.
func (n *node) walk(f func(*Entry) bool) bool {
	return n == nil || n.left.walk(f) && f(n.entry) && n.right.walk(f)
}

// buildTree makes a tree of entries that are sorted by key.
func buildTree(sorted []*Entry) *node {
	if len(sorted) == 0 {
		return nil
	}
	mid := len(sorted) / 2
	return join(sorted[mid], buildTree(sorted[:mid]), buildTree(sorted[mid+1:]))
}

// afterPrefix returns the least string that is greater than every string with
// the prefix; ok is false when there is none.
func afterPrefix(prefix string) (end string, ok bool) {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1}), true
		}
	}
	return "", false
}
