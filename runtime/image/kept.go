package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
)

// Kept is an image that is on this node: a module, files to be mounted, or both.
type Kept struct {
	Digest string
	// Refs are the names that meant it when they were pulled last, in order.
	Refs []string
	// Bytes are those of the module and of the files.
	Bytes int64

	moduleSum string // "": there is no module
	module    int64  // bytes
	files     bool
}

// List is what is kept, the largest first. Images that are built in are not
// among it. The result must not be changed.
func (s *Store) List() ([]Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		return s.kept, nil
	}
	byDigest := map[string]*Kept{}
	entry := func(digest string) *Kept {
		if byDigest[digest] == nil {
			byDigest[digest] = &Kept{Digest: digest}
		}
		return byDigest[digest]
	}
	if err := s.listModules(entry); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	if err := s.listFiles(entry); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	err := s.eachRef(func(_, ref, digest string) {
		ref = strings.TrimPrefix(ref, treeRef(""))
		if k := byDigest[digest]; k != nil && !slices.Contains(k.Refs, ref) {
			k.Refs = append(k.Refs, ref)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	all := make([]Kept, 0, len(byDigest))
	for _, k := range byDigest {
		slices.Sort(k.Refs)
		all = append(all, *k)
	}
	slices.SortFunc(all, func(a, b Kept) int {
		if a.Bytes != b.Bytes {
			return int(max(min(b.Bytes-a.Bytes, 1), -1))
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	s.kept = all
	return all, nil
}

func (s *Store) listModules(entry func(digest string) *Kept) error {
	records, err := filepath.Glob(filepath.Join(s.dir, "manifests", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range records {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var img sandbox.Image
		if json.Unmarshal(data, &img) != nil || s.recordPath(img.Digest) != file {
			continue // it is as if it were not there, see byDigest
		}
		k := entry(img.Digest)
		k.moduleSum = img.ModuleSum
		if info, err := os.Stat(s.modulePath(img.ModuleSum)); err == nil {
			k.module = info.Size()
			k.Bytes += k.module
		}
	}
	return nil
}

func (s *Store) listFiles(entry func(digest string) *Kept) error {
	trees, err := os.ReadDir(filepath.Join(s.dir, "trees"))
	if err != nil {
		return err
	}
	for _, tree := range trees {
		algorithm, hex, ok := strings.Cut(tree.Name(), "-")
		if !ok || algorithm == "" {
			continue // one that is being made, or taken away
		}
		digest := algorithm + ":" + hex
		k := entry(digest)
		k.files = true
		if _, known := s.sizes[digest]; !known {
			s.sizes[digest] = treeSize(s.treePath(digest)) // it never changes
		}
		k.Bytes += s.sizes[digest]
	}
	return nil
}

// treeSize adds up the files of a directory.
func treeSize(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// eachRef calls visit with every name that is known, the file that knows it and
// the digest that it meant.
func (s *Store) eachRef(visit func(file, ref, digest string)) error {
	refs, err := os.ReadDir(filepath.Join(s.dir, "refs"))
	if err != nil {
		return err
	}
	for _, entry := range refs {
		file := filepath.Join(s.dir, "refs", entry.Name())
		ref, err := url.QueryUnescape(entry.Name())
		if err != nil || strings.HasPrefix(ref, ".new-") {
			continue
		}
		digest, err := os.ReadFile(file)
		switch {
		case err == nil:
			visit(file, ref, string(digest))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// changed says that List has to look again.
func (s *Store) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = nil
}

// touch notes that somebody uses an image now.
func (s *Store) touch(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[digest] = time.Now()
}
