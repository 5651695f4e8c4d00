package offline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"wherry.dev/wherry/control/api"
)

// keeper is the disk: one file per object, one directory per collection. A file
// that cannot be read counts as absent.
type keeper struct {
	types *api.Types
	dir   string
}

const revisionFile = "revision"

// name makes a file's name of what identifies something: names of objects may
// be longer than those of files.
func name(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// single is the place of an object that was read by its key.
func single(key api.Key, subresource string) string {
	return filepath.Join("single", name(key.String(), subresource))
}

// token is the place of a service account's token, which depends on what it was
// asked for.
func token(key api.Key, request api.Object) string {
	parts := []string{key.String(), "token"}
	if r, ok := request.(*authenticationv1.TokenRequest); ok {
		parts = append(parts, r.Spec.Audiences...)
		if r.Spec.BoundObjectRef != nil {
			parts = append(parts, string(r.Spec.BoundObjectRef.UID))
		}
	}
	return filepath.Join("single", name(parts...))
}

// collection is the directory of what a list with these selectors yields.
func collection(key api.Key, opts api.ListOptions) string {
	labels, fields := "", ""
	if opts.Labels != nil {
		labels = opts.Labels.String()
	}
	if opts.Fields != nil {
		fields = opts.Fields.String()
	}
	return name(key.String(), labels, fields)
}

func member(dir string, obj api.Object) string {
	return filepath.Join(dir, name(obj.GetNamespace(), obj.GetName()))
}

func (k keeper) write(place string, data []byte) error {
	path := filepath.Join(k.dir, place)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-") // mode 0600
	if err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("keep: %w", err)
	}
	return nil
}

func (k keeper) put(place string, obj api.Object) error {
	data, err := k.types.Encode(obj)
	if err != nil {
		return err
	}
	return k.write(place, data)
}

func (k keeper) get(place string) (api.Object, bool) {
	data, err := os.ReadFile(filepath.Join(k.dir, place))
	if err != nil {
		return nil, false
	}
	obj, err := k.types.Decode(data)
	return obj, err == nil
}

func (k keeper) remove(place string) error {
	if err := os.Remove(filepath.Join(k.dir, place)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep: %w", err)
	}
	return nil
}

func (k keeper) setRevision(dir, revision string) error {
	return k.write(filepath.Join(dir, revisionFile), []byte(revision))
}

// replace makes a collection what a list says. The revision goes first and
// comes last: a collection without one is not complete.
func (k keeper) replace(dir string, list *api.List) error {
	if err := os.RemoveAll(filepath.Join(k.dir, dir)); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	for _, obj := range list.Items {
		if err := k.put(member(dir, obj), obj); err != nil {
			return err
		}
	}
	return k.setRevision(dir, list.ResourceVersion)
}

func (k keeper) list(dir string) (*api.List, bool) {
	revision, err := os.ReadFile(filepath.Join(k.dir, dir, revisionFile))
	if err != nil {
		return nil, false
	}
	entries, err := os.ReadDir(filepath.Join(k.dir, dir))
	if err != nil {
		return nil, false
	}
	list := &api.List{ResourceVersion: string(revision)}
	for _, entry := range entries {
		if entry.Name() == revisionFile || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if obj, ok := k.get(filepath.Join(dir, entry.Name())); ok {
			list.Items = append(list.Items, obj)
		}
	}
	return list, true
}
