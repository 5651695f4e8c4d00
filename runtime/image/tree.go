package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"
)

// Bounds of an image's files, so that none fills the disk by surprise.
const (
	maxTreeBytes = 4 << 30
	maxTreeFiles = 250_000
)

// titleKey names the file that a layer of an artifact is
// (https://github.com/opencontainers/image-spec/blob/main/annotations.md).
const titleKey = "org.opencontainers.image.title"

// Tree is the files of an image on this node.
type Tree struct {
	Dir    string
	Digest string
	// Present says that nothing had to be fetched.
	Present bool
}

// Unpack makes sure that the files of an image are on this node, of any
// platform's or none: container images and artifacts of all kinds. A layer that
// is no archive becomes a file named by its title. Policy and errors are as
// with Pull. The files are shared and must not be changed.
func (s *Store) Unpack(ctx context.Context, ref string, policy corev1.PullPolicy, creds Credentials) (Tree, error) {
	sources, err := s.sources(ref)
	if err != nil {
		return Tree{}, &PullError{ref, ReasonInvalidName, err}
	}
	if policy != corev1.PullAlways {
		if tree, ok := s.localTree(ref); ok {
			return tree, nil
		}
	}
	if policy == corev1.PullNever {
		return Tree{}, &PullError{ref, ReasonNeverPull, fmt.Errorf("image %q is not present with pull policy of Never", ref)}
	}
	tree, err := s.trees.join(ctx, ref+" "+creds.id(), func(ctx context.Context) (Tree, error) {
		desc, err := s.describe(ctx, ref, sources, creds)
		if err != nil {
			return Tree{}, err
		}
		return s.fetchTree(ref, desc)
	})
	switch {
	case err == nil:
		return tree, nil
	case ctx.Err() != nil:
		return Tree{}, ctx.Err()
	}
	return Tree{}, &PullError{ref, ReasonPull, err}
}

func (s *Store) treePath(digest string) string {
	return filepath.Join(s.dir, "trees", fileName(digest))
}

// localTree is what ref named when it was last unpacked.
func (s *Store) localTree(ref string) (Tree, bool) {
	digest := ""
	if parsed, err := name.NewDigest(ref); err == nil {
		digest = parsed.DigestStr()
	} else if kept, err := os.ReadFile(s.refPath(treeRef(ref))); err == nil {
		digest = string(kept)
	}
	if digest == "" {
		return Tree{}, false
	}
	tree := Tree{Dir: s.treePath(digest), Digest: digest, Present: true}
	s.files.RLock()
	defer s.files.RUnlock()
	return tree, s.hasTree(digest)
}

// hasTree says whether the files of an image are here, to somebody who uses
// them then; s.files is held.
func (s *Store) hasTree(digest string) bool {
	if _, err := os.Stat(s.treePath(digest)); err != nil {
		return false
	}
	s.touch(digest)
	return true
}

// treeRef keeps apart what a name means as files and as a module: an index may
// answer with different entries.
func treeRef(ref string) string { return "tree " + ref }

func (s *Store) fetchTree(ref string, desc *remote.Descriptor) (Tree, error) {
	img, err := pickAny(desc)
	if err != nil {
		return Tree{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Tree{}, fmt.Errorf("read manifest: %w", err)
	}
	tree := Tree{Dir: s.treePath(digest.String()), Digest: digest.String()}
	tree.Present, err = s.adoptTree(ref, tree.Digest)
	if err == nil && !tree.Present {
		err = s.makeTree(img, ref, tree.Digest)
	}
	if err != nil {
		return Tree{}, err
	}
	return tree, nil
}

// adoptTree lets ref mean files that are here already.
func (s *Store) adoptTree(ref, digest string) (bool, error) {
	s.files.RLock()
	defer s.files.RUnlock()
	if !s.hasTree(digest) {
		return false, nil
	}
	return true, s.name(treeRef(ref), digest)
}

// pickAny prefers the wasm entry of an index, then the first one.
func pickAny(desc *remote.Descriptor) (v1.Image, error) {
	return choose(desc, func(index v1.ImageIndex, entries []v1.Descriptor) (v1.Image, error) {
		if len(entries) == 0 {
			return nil, errors.New("the index is empty")
		}
		return index.Image(entries[0].Digest)
	})
}

// makeTree unpacks beside the target and renames, so that a tree is there
// whole or not at all.
func (s *Store) makeTree(img v1.Image, ref, digest string) (err error) {
	temporary, err := os.MkdirTemp(filepath.Join(s.dir, "trees"), ".pull-")
	if err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	if err := os.Chmod(temporary, 0o755); err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	root, err := os.OpenRoot(temporary)
	if err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	defer root.Close()
	manifest, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("read layers: %w", err)
	}
	u := unpacking{root: root, bytes: maxTreeBytes, files: maxTreeFiles}
	for i, layer := range layers {
		if err := u.layer(layer, manifest.Layers[i]); err != nil {
			return fmt.Errorf("unpack layer %d: %w", i, err)
		}
	}
	s.files.RLock()
	defer s.files.RUnlock()
	if err := os.Rename(temporary, s.treePath(digest)); err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	return s.name(treeRef(ref), digest)
}

// unpacking lays one layer over the other. All names go through the Root, so
// that no archive can leave its directory.
type unpacking struct {
	root         *os.Root
	bytes, files int64 // left
}

func (u *unpacking) layer(layer v1.Layer, said v1.Descriptor) error {
	archive := strings.Contains(string(said.MediaType), "tar") || said.MediaType == types.DockerLayer
	if !archive {
		body, err := layer.Compressed()
		if err != nil {
			return err
		}
		defer body.Close()
		title := said.Annotations[titleKey]
		switch {
		case title == "" && said.MediaType == wasmType:
			title = "module.wasm"
		case title == "":
			title = said.Digest.Hex
		}
		return u.file(clean(title), body, 0o644)
	}
	body, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer body.Close()
	in := tar.NewReader(bufio.NewReader(body))
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := u.entry(header, in); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	_, err = io.Copy(io.Discard, body) // to its end, where the digest is verified
	return err
}

// Names that take away what is below
// (https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts).
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

func (u *unpacking) entry(header *tar.Header, body io.Reader) error {
	at := clean(header.Name)
	if at == "" {
		return nil
	}
	dir, base := path.Split(at)
	if base == opaque {
		return u.empty(path.Clean(dir))
	}
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		return u.root.RemoveAll(path.Join(dir, hidden))
	}
	mode := fs.FileMode(header.Mode).Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		return u.directory(at, mode)
	case tar.TypeReg:
		return u.file(at, body, mode)
	case tar.TypeSymlink:
		if err := u.clear(at); err != nil {
			return err
		}
		return u.root.Symlink(header.Linkname, at)
	case tar.TypeLink:
		if err := u.clear(at); err != nil {
			return err
		}
		return u.root.Link(clean(header.Linkname), at)
	}
	return nil // devices and pipes are nothing for a guest
}

// empty takes away what a directory holds.
func (u *unpacking) empty(dir string) error {
	entries, err := fs.ReadDir(u.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, u.root.RemoveAll(path.Join(dir, e.Name())))
	}
	return err
}

// clear makes room for an entry.
func (u *unpacking) clear(at string) error {
	if u.files--; u.files < 0 {
		return fmt.Errorf("the image has more than %d files", maxTreeFiles)
	}
	if err := u.root.MkdirAll(path.Dir(at), 0o755); err != nil {
		return err
	}
	return u.root.RemoveAll(at)
}

func (u *unpacking) directory(at string, mode fs.FileMode) error {
	info, err := u.root.Lstat(at)
	if err != nil || !info.IsDir() {
		if err := u.clear(at); err != nil {
			return err
		}
		if err := u.root.Mkdir(at, 0o755); err != nil {
			return err
		}
	}
	return u.root.Chmod(at, mode|0o700) // the node has to remove it some day
}

func (u *unpacking) file(at string, body io.Reader, mode fs.FileMode) error {
	if err := u.clear(at); err != nil {
		return err
	}
	f, err := u.root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(body, u.bytes+1))
	if u.bytes -= n; err == nil && u.bytes < 0 {
		err = fmt.Errorf("the image has more than %d MiB of files", int64(maxTreeBytes)>>20)
	}
	if err == nil {
		err = f.Chmod(mode | 0o400)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
