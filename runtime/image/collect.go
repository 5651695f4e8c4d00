package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"wherry.dev/wherry/runtime/sandbox"
)

// User is a node that runs what the store keeps. Nodes of one process share a
// store.
type User struct {
	// InUse names the images of all pods that may still start something, by
	// reference or digest. known is false as long as the pods are not: then
	// nothing is removed.
	InUse func() (images []string, known bool)
	// Forget removes what a runtime has made of a module and returns the bytes
	// that are free now. An error keeps the image; sandbox.ErrInUse is one that
	// needs no words. Nil: there is nothing to be removed.
	Forget func(ctx context.Context, moduleSum string) (int64, error)
}

// Join makes a user known, until leave is called.
func (s *Store) Join(u User) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = append(s.users, &u)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.users = slices.DeleteFunc(s.users, func(other *User) bool { return other == &u })
	}
}

// Need is what a collection is for.
type Need struct {
	// Bytes are to be free in the end; math.MaxInt64: all that can be.
	Bytes int64
	// MinAge keeps images that were pulled, or that a pod had, less long ago.
	MinAge time.Duration
}

// Collect removes images that nobody uses, the longest unused first, with what
// runtimes have made of their modules, until need is met, and returns how many
// bytes that has freed. Less than was needed is no error. What was pushed to the
// cluster's registry is not the store's and stays.
func (s *Store) Collect(ctx context.Context, need Need) (freed int64, err error) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	began := time.Now()
	unused, err := s.unused(began)
	if err != nil {
		return 0, fmt.Errorf("collect images: %w", err)
	}
	var errs []error
	for _, k := range unused {
		if freed >= need.Bytes || !k.used.Before(began) || began.Sub(k.used) < need.MinAge || ctx.Err() != nil {
			break // those that follow were used later
		}
		n, err := s.remove(ctx, k.Kept, began)
		freed += n
		switch {
		case errors.Is(err, sandbox.ErrInUse):
		case err != nil:
			errs = append(errs, err)
		default:
			s.log.Info("unused image removed", "digest", k.Digest, "names", k.Refs, "freed", n)
		}
	}
	s.changed()
	if len(errs) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w",
			need.Bytes, freed, errors.Join(errs...))
	}
	return freed, nil
}

// aged is an image and when it was used last.
type aged struct {
	Kept
	used time.Time
}

// unused lists the images that no user has, the longest unused first. The time
// of an image's last use is kept as that of its record, so that it is known
// after a restart too.
func (s *Store) unused(now time.Time) ([]aged, error) {
	inUse, known, err := s.inUse()
	if err != nil || !known {
		return nil, err
	}
	s.changed() // files may have gone since
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []aged
	for _, k := range all {
		used := s.used[k.Digest]
		if inUse[k.Digest] {
			used = now
		}
		written := s.written(k)
		if used.After(written) {
			s.write(k, used)
		} else {
			used = written
		}
		delete(s.used, k.Digest) // it is in the file now
		if !inUse[k.Digest] {
			out = append(out, aged{k, used})
		}
	}
	slices.SortFunc(out, func(a, b aged) int {
		if c := a.used.Compare(b.used); c != 0 {
			return c
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return out, nil
}

// marks are the files whose times are that of an image's last use.
func (s *Store) marks(k Kept) (files []string) {
	if k.moduleSum != "" {
		files = append(files, s.recordPath(k.Digest))
	}
	if k.files {
		files = append(files, s.treePath(k.Digest))
	}
	return files
}

func (s *Store) written(k Kept) (last time.Time) {
	for _, file := range s.marks(k) {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

func (s *Store) write(k Kept, used time.Time) {
	for _, file := range s.marks(k) {
		if err := os.Chtimes(file, time.Time{}, used); err != nil {
			s.log.Warn("cannot note that an image is in use; it may be removed sooner than others", "digest", k.Digest, "err", err)
		}
	}
}

// inUse is the digests of what the users use; known is false when one of them
// does not know yet.
func (s *Store) inUse() (digests map[string]bool, known bool, err error) {
	s.mu.Lock()
	users := slices.Clone(s.users)
	s.mu.Unlock()
	refs := map[string]bool{}
	digests = map[string]bool{}
	for _, u := range users {
		images, known := u.InUse()
		if !known {
			return nil, false, nil
		}
		for _, ref := range images {
			refs[ref] = true
			digests[ref] = true
			if parsed, err := name.NewDigest(ref); err == nil {
				digests[parsed.DigestStr()] = true
			}
		}
	}
	err = s.eachRef(func(_, ref, digest string) {
		if refs[strings.TrimPrefix(ref, treeRef(""))] {
			digests[digest] = true
		}
	})
	return digests, true, err
}

// remove takes one image away, if it was not used since a time.
func (s *Store) remove(ctx context.Context, k Kept, since time.Time) (freed int64, err error) {
	trash, freed, err := s.unlink(ctx, k, since)
	if trash != "" {
		err = errors.Join(err, os.RemoveAll(trash)) // New does it again if this ends before
	}
	return freed, err
}

// unlink does the part of remove that must not be seen half done. Files of a
// tree are moved away only, as trash.
func (s *Store) unlink(ctx context.Context, k Kept, since time.Time) (trash string, freed int64, err error) {
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	used := s.used[k.Digest]
	s.mu.Unlock()
	if !used.Before(since) {
		return "", 0, sandbox.ErrInUse
	}
	all, err := s.List()
	if err != nil {
		return "", 0, err
	}
	own := k.moduleSum != "" && !s.isBuiltin(k.moduleSum) &&
		!slices.ContainsFunc(all, func(o Kept) bool { return o.Digest != k.Digest && o.moduleSum == k.moduleSum })
	if own {
		if freed, err = s.forget(ctx, k.moduleSum); err != nil {
			return "", freed, fmt.Errorf("image %s: %w", k.Digest, err)
		}
	}
	gone := []string{s.recordPath(k.Digest)} // first: without it nothing else is looked for
	if err := s.eachRef(func(file, _, digest string) {
		if digest == k.Digest {
			gone = append(gone, file)
		}
	}); err != nil {
		return "", freed, err
	}
	if own {
		gone = append(gone, s.modulePath(k.moduleSum))
		freed += k.module
	}
	for _, file := range gone {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", freed, err
		}
	}
	if !k.files {
		return "", freed, nil
	}
	trash, err = os.MkdirTemp(filepath.Join(s.dir, "trees"), ".pull-")
	if err != nil {
		return "", freed, err
	}
	freed += k.Bytes - k.module
	return trash, freed, os.Rename(s.treePath(k.Digest), filepath.Join(trash, "tree"))
}

// forget has all users remove what they have made of a module.
func (s *Store) forget(ctx context.Context, moduleSum string) (freed int64, err error) {
	s.mu.Lock()
	users := slices.Clone(s.users)
	s.mu.Unlock()
	for _, u := range users {
		if u.Forget == nil {
			continue
		}
		n, err := u.Forget(ctx, moduleSum)
		freed += n
		if err != nil {
			return freed, err
		}
	}
	return freed, nil
}
