package distribution

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A digest is "sha256:" and 64 lower-case hex digits; the registry stores no
// other algorithm.
const digestPrefix = "sha256:"

func validDigest(d string) bool {
	digits, ok := strings.CutPrefix(d, digestPrefix)
	if !ok || len(digits) != sha256.Size*2 {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil && strings.ToLower(digits) == digits
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return digestPrefix + hex.EncodeToString(sum[:])
}

func (r *Registry) blobPath(digest string) string {
	return filepath.Join(r.dir, "blobs", "sha256", strings.TrimPrefix(digest, digestPrefix))
}

// upload is one blob on its way in. Bytes go to a file of their own and only
// become a blob, by rename, when the digest matches.
type upload struct {
	file  *os.File
	sum   hash.Hash
	size  int64
	touch time.Time
}

var errBlobTooLarge = errors.New("blob exceeds the registry's limit")

// append copies body to the upload. A failed copy leaves the upload unusable,
// so the caller drops it.
func (u *upload) append(body io.Reader, limit int64) error {
	n, err := io.Copy(io.MultiWriter(u.file, u.sum), io.LimitReader(body, limit-u.size+1))
	u.size += n
	u.touch = time.Now()
	if err != nil {
		return fmt.Errorf("receive blob: %w", err)
	}
	if u.size > limit {
		return errBlobTooLarge
	}
	return nil
}

func (u *upload) digest() string { return digestPrefix + hex.EncodeToString(u.sum.Sum(nil)) }

// discard removes what was received.
func (u *upload) discard() {
	u.file.Close()
	os.Remove(u.file.Name())
}

// commit makes the upload a blob: on disk before it has a name.
func (r *Registry) commit(u *upload, digest string) error {
	if err := u.file.Sync(); err != nil {
		u.discard()
		return fmt.Errorf("sync blob: %w", err)
	}
	if err := u.file.Close(); err != nil {
		os.Remove(u.file.Name())
		return fmt.Errorf("close blob: %w", err)
	}
	if err := os.Rename(u.file.Name(), r.blobPath(digest)); err != nil {
		os.Remove(u.file.Name())
		return fmt.Errorf("name blob: %w", err)
	}
	return syncDir(filepath.Dir(r.blobPath(digest)))
}

func (r *Registry) newUpload() (*upload, error) {
	f, err := os.CreateTemp(filepath.Join(r.dir, "uploads"), "blob-")
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	return &upload{file: f, sum: sha256.New(), touch: time.Now()}, nil
}

// writeDurably replaces path by data so that a crash leaves the old content or
// the new, never a part.
func writeDurably(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, which is right
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes renames in dir durable. Some systems cannot sync a directory;
// there the rename is as durable as the system makes it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
