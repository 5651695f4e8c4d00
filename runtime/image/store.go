package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// snapshotLabel on an image asks for containers that start from a snapshot of
// the initialised module.
const snapshotLabel = "wherry.dev/snapshot"

// Config says where images come from and where they are kept.
type Config struct {
	Dir string
	// Registry is the host:port of the cluster's own registry, asked first for
	// names that name no registry; empty: there is none.
	Registry string
	// Transport reaches Registry with the node's credentials.
	Transport http.RoundTripper
	// Keychain has credentials for other registries; nil: those of the user's
	// docker config.
	Keychain authn.Keychain
	Builtins []Builtin
	Log      *slog.Logger
}

// Store is the images of one node. It is safe for concurrent use.
type Store struct {
	dir       string
	registry  string
	transport http.RoundTripper
	keychain  authn.Keychain
	builtins  []Builtin
	log       *slog.Logger
	pulls     flights[Pulled]
	trees     flights[Tree]

	// files is held for writing while an image is taken away, for reading by
	// whoever relies on files being there or puts some there.
	files      sync.RWMutex
	collecting sync.Mutex // held by Collect

	mu    sync.Mutex
	users []*User
	used  map[string]time.Time // since the last collection, by digest
	sizes map[string]int64     // of trees, by digest
	kept  []Kept               // what List found; nil: it has to look
}

// New makes or opens the store in cfg.Dir.
func New(cfg Config) (*Store, error) {
	for _, sub := range []string{"modules", "manifests", "refs", "trees"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	leftovers, err := filepath.Glob(filepath.Join(cfg.Dir, "*", ".pull-*"))
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	for _, file := range leftovers { // of a process that was killed while pulling
		if err := os.RemoveAll(file); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if cfg.Keychain == nil {
		cfg.Keychain = authn.DefaultKeychain
	}
	return &Store{dir: cfg.Dir, registry: cfg.Registry, transport: cfg.Transport, keychain: cfg.Keychain, builtins: cfg.Builtins, log: cfg.Log,
		used: map[string]time.Time{}, sizes: map[string]int64{}}, nil
}

// Pulled is the outcome of a Pull.
type Pulled struct {
	Image sandbox.Image
	// Present says that nothing had to be fetched.
	Present bool
}

// Pull makes sure that the image is on this node, as policy demands: Never
// takes only what is here, IfNotPresent asks no registry for what is here,
// Always asks the registry what the name means now. Credentials are tried
// before the node's own, one after the other. An error is a *PullError, or
// ctx's.
func (s *Store) Pull(ctx context.Context, ref string, policy corev1.PullPolicy, creds Credentials) (Pulled, error) {
	sources, err := s.sources(ref)
	if err != nil {
		return Pulled{}, &PullError{ref, ReasonInvalidName, err}
	}
	if pulled, ok, err := s.builtinImage(ref); err != nil {
		return Pulled{}, &PullError{ref, ReasonPull, err}
	} else if ok {
		return pulled, nil
	}
	if policy != corev1.PullAlways {
		if img, ok := s.local(ref); ok {
			return Pulled{img, true}, nil
		}
	}
	if policy == corev1.PullNever {
		return Pulled{}, &PullError{ref, ReasonNeverPull,
			fmt.Errorf("image %q is not present with pull policy of Never", ref)}
	}
	pulled, err := s.pulls.join(ctx, ref+" "+creds.id(), func(ctx context.Context) (Pulled, error) {
		desc, err := s.describe(ctx, ref, sources, creds)
		if err != nil {
			return Pulled{}, err
		}
		return s.fetch(ref, desc)
	})
	switch {
	case err == nil:
		return pulled, nil
	case ctx.Err() != nil:
		return Pulled{}, ctx.Err()
	}
	return Pulled{}, &PullError{ref, ReasonPull, err}
}

// source is one place where a reference may be found.
type source struct {
	ref     name.Reference
	cluster bool
}

// sources lists where to look for ref: a name without a registry means the
// cluster's own first, then Docker's, as everywhere else.
func (s *Store) sources(ref string) ([]source, error) {
	bare, err := name.ParseReference(ref, name.WithDefaultRegistry("cluster.invalid"))
	if err != nil {
		return nil, fmt.Errorf("couldn't parse image name %q: %w", ref, err)
	}
	full, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("couldn't parse image name %q: %w", ref, err)
	}
	if bare.Context().RegistryStr() != "cluster.invalid" {
		return []source{{full, full.Context().RegistryStr() == s.registry && s.registry != ""}}, nil
	}
	if s.registry == "" {
		return []source{{full, false}}, nil
	}
	own, err := name.ParseReference(s.registry + "/" + ref)
	if err != nil {
		return nil, fmt.Errorf("couldn't parse image name %q: %w", ref, err)
	}
	return []source{{own, true}, {full, false}}, nil
}

// describe asks for what ref names, where it may be and with what may open it.
func (s *Store) describe(ctx context.Context, ref string, sources []source, creds Credentials) (*remote.Descriptor, error) {
	for i, src := range sources {
		desc, err := s.ask(ctx, src, creds)
		if err == nil {
			return desc, nil
		}
		if i+1 < len(sources) && notFound(err) {
			continue
		}
		if len(sources) > 1 && i > 0 {
			return nil, fmt.Errorf("image %q is not in the cluster's registry (put it there with: wherry push FILE.wasm %s), "+
				"and %s answered: %w", ref, ref, src.ref.Context().RegistryStr(), err)
		}
		return nil, fmt.Errorf("failed to pull image %q: %w", ref, err)
	}
	return nil, fmt.Errorf("failed to pull image %q: no registry to ask", ref)
}

// ask tries one source with each credential for it, then with the node's own.
func (s *Store) ask(ctx context.Context, src source, creds Credentials) (*remote.Descriptor, error) {
	options := []remote.Option{remote.WithContext(ctx), remote.WithUserAgent("wherry"),
		remote.WithPlatform(v1.Platform{OS: "wasip1", Architecture: "wasm"})}
	if src.cluster {
		return remote.Get(src.ref, append(options, remote.WithTransport(patient{s.transport, stallTime}))...)
	}
	options = append(options, remote.WithTransport(patient{remote.DefaultTransport, stallTime}))
	for _, auth := range creds.forImage(src.ref) {
		desc, err := remote.Get(src.ref, append(options[:len(options):len(options)], remote.WithAuth(auth))...)
		if err == nil || !refused(err) {
			return desc, err
		}
	}
	return remote.Get(src.ref, append(options, remote.WithAuthFromKeychain(s.keychain))...)
}

// refused reports whether a registry wants to know more about who asks.
func refused(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden)
}

func notFound(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// fetch takes what a registry described: at once when its content is here
// already, else layer by layer with every digest verified.
func (s *Store) fetch(ref string, desc *remote.Descriptor) (Pulled, error) {
	img, err := pick(desc)
	if err != nil {
		return Pulled{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Pulled{}, fmt.Errorf("read manifest: %w", err)
	}
	pulled := Pulled{Present: true}
	known, ok, err := s.adopt(ref, digest.String())
	if err == nil && !ok {
		pulled.Present = false
		known, err = s.unpack(img, ref, digest.String())
	}
	if err != nil {
		return Pulled{}, err
	}
	known.Ref = ref
	pulled.Image = known
	return pulled, nil
}

// pick chooses the wasm entry of a multi-platform index.
func pick(desc *remote.Descriptor) (v1.Image, error) {
	return choose(desc, func(index v1.ImageIndex, entries []v1.Descriptor) (v1.Image, error) {
		if len(entries) == 1 {
			return index.Image(entries[0].Digest)
		}
		platforms := []string{}
		for _, entry := range entries {
			if entry.Platform != nil {
				platforms = append(platforms, entry.Platform.OS+"/"+entry.Platform.Architecture)
			}
		}
		return nil, fmt.Errorf("the image has no wasm variant, only %s", strings.Join(platforms, ", "))
	})
}

// choose is the image of a descriptor: of an index the wasm entry, or what
// without says when there is none.
func choose(desc *remote.Descriptor, without func(v1.ImageIndex, []v1.Descriptor) (v1.Image, error)) (v1.Image, error) {
	if !desc.MediaType.IsIndex() {
		return desc.Image()
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	for _, entry := range manifest.Manifests {
		if entry.Platform != nil && entry.Platform.Architecture == "wasm" {
			return index.Image(entry.Digest)
		}
	}
	return without(index, manifest.Manifests)
}

// adopt lets ref mean an image that is here already.
func (s *Store) adopt(ref, digest string) (sandbox.Image, bool, error) {
	s.files.RLock()
	defer s.files.RUnlock()
	img, ok := s.record(digest)
	if !ok {
		return img, false, nil
	}
	return img, true, s.name(ref, digest)
}

// name keeps what ref means; s.files is held. A collection that began before
// does not know it yet, but sees that the image is used.
func (s *Store) name(ref, digest string) error {
	if err := writeDurably(s.refPath(ref), []byte(digest)); err != nil {
		return fmt.Errorf("keep image: %w", err)
	}
	s.touch(digest)
	s.changed()
	return nil
}

// unpack saves the module and then the record that names it, so that a record
// is never there without its module.
func (s *Store) unpack(img v1.Image, ref, digest string) (sandbox.Image, error) {
	out := sandbox.Image{Digest: digest}
	manifest, err := img.Manifest()
	if err != nil {
		return out, fmt.Errorf("read manifest: %w", err)
	}
	if manifest.Config.MediaType != configType {
		config, err := img.ConfigFile()
		if err != nil {
			return out, fmt.Errorf("read image config: %w", err)
		}
		out.Entrypoint, out.Cmd = config.Config.Entrypoint, config.Config.Cmd
		out.Env, out.WorkingDir = config.Config.Env, config.Config.WorkingDir
		out.Snapshot = config.Config.Labels[snapshotLabel] == "true"
	}
	entrypoint := out.Entrypoint
	if len(entrypoint) == 0 {
		entrypoint = out.Cmd
	}
	file, sum, err := extract(img, entrypoint, filepath.Join(s.dir, "modules"))
	if err != nil {
		return out, err
	}
	out.ModuleSum = sum
	s.files.RLock()
	defer s.files.RUnlock()
	if err := os.Rename(file, s.modulePath(sum)); err != nil {
		os.Remove(file)
		return out, fmt.Errorf("keep module: %w", err)
	}
	record, err := json.Marshal(out)
	if err != nil {
		return out, fmt.Errorf("keep image: %w", err)
	}
	if err := writeDurably(s.recordPath(digest), record); err != nil {
		return out, fmt.Errorf("keep image: %w", err)
	}
	out.Module = s.modulePath(sum)
	return out, s.name(ref, digest)
}

func (s *Store) recordPath(digest string) string {
	return filepath.Join(s.dir, "manifests", fileName(digest)+".json")
}

func (s *Store) refPath(ref string) string {
	return filepath.Join(s.dir, "refs", url.QueryEscape(ref))
}

// local answers from the disk what ref named when it was last pulled.
func (s *Store) local(ref string) (sandbox.Image, bool) {
	digest := ""
	if parsed, err := name.NewDigest(ref); err == nil {
		digest = parsed.DigestStr()
	} else if kept, err := os.ReadFile(s.refPath(ref)); err == nil {
		digest = string(kept)
	}
	if digest == "" {
		return sandbox.Image{}, false
	}
	img, ok := s.byDigest(digest)
	img.Ref = ref
	return img, ok
}

// byDigest is an image that is here, to somebody who uses it then.
func (s *Store) byDigest(digest string) (sandbox.Image, bool) {
	s.files.RLock()
	defer s.files.RUnlock()
	return s.record(digest)
}

// record reads a record; s.files is held. One that cannot be read, or whose
// module is gone, counts as absent: the image is pulled again.
func (s *Store) record(digest string) (sandbox.Image, bool) {
	var img sandbox.Image
	data, err := os.ReadFile(s.recordPath(digest))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("image record unreadable, pulling again", "digest", digest, "err", err)
		}
		return img, false
	}
	if err := json.Unmarshal(data, &img); err != nil || img.Digest != digest {
		s.log.Warn("image record damaged, pulling again", "digest", digest, "err", err)
		return img, false
	}
	img.Module = s.modulePath(img.ModuleSum)
	if _, err := os.Stat(img.Module); err != nil {
		return img, false
	}
	s.touch(digest)
	return img, true
}
