package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// Files of a cache entry. The directory's name is made of the versions and the
// module's sum; the entry exists when the directory does, for it is renamed
// into place.
const (
	entryMeta  = "meta.json"
	entryWasm  = "module.wasm"
	entryImage = "image"
	codeDir    = "code" // of all entries, as wazero lays it out
)

// entry is what the cache knows of a prepared module.
type entry struct {
	Sum         string
	Info        *Info
	ImageOffset uint32
	// Files by path relative to the cache's directory.
	Files map[string]fileSum
	Image string `json:",omitempty"` // key of Files; "" when there is no image
	Wasm  string // key of Files
}

type fileSum struct {
	Size int64
	CRC  uint32 // Castagnoli
}

// version names everything that a cache entry depends on beside the module.
func version() string {
	wazero := "dev"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				wazero = d.Version
			}
		}
	}
	return "r" + RewriteVersion + "-wazero-" + wazero + "-" + runtime.GOOS + "-" + runtime.GOARCH
}

// entryName is the directory of a sum ("sha256:…") below the cache's.
func entryName(sum string) (string, error) {
	algorithm, digest, ok := strings.Cut(sum, ":")
	if !ok || algorithm == "" || digest == "" || strings.Trim(algorithm+digest, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fmt.Errorf("%q is no digest; want for example sha256:0123abcd", sum)
	}
	return filepath.Join(version(), algorithm+"-"+digest), nil
}

// readEntry returns os.ErrNotExist when there is none, errCorrupt when its
// bytes are not those that were written.
func (c *Cache) readEntry(sum string) (*entry, error) {
	name, err := entryName(sum)
	if err != nil {
		return nil, err
	}
	return readMeta(filepath.Join(c.cfg.Dir, name), sum)
}

// readMeta is readEntry of one directory.
func readMeta(dir, sum string) (*entry, error) {
	raw, err := os.ReadFile(filepath.Join(dir, entryMeta))
	if err != nil {
		if _, gone := os.Stat(dir); gone == nil && errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s has no %s", errCorrupt, filepath.Base(dir), entryMeta)
		}
		return nil, err
	}
	// The first line is the checksum of the rest.
	var want uint32
	head, body, _ := strings.Cut(string(raw), "\n")
	if _, err := fmt.Sscanf(head, "%08x", &want); err != nil || want != checksum([]byte(body)) {
		return nil, fmt.Errorf("%w: %s", errCorrupt, entryMeta)
	}
	e := &entry{}
	if err := json.Unmarshal([]byte(body), e); err != nil || e.Sum != sum || e.Info == nil {
		return nil, fmt.Errorf("%w: %s is of another module or version", errCorrupt, entryMeta)
	}
	return e, nil
}

// verify checks every file of an entry.
func (c *Cache) verify(e *entry) error {
	for path, want := range e.Files {
		got, err := sumFile(filepath.Join(c.cfg.Dir, path))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%w: %s is missing", errCorrupt, path)
		case err != nil:
			return err
		case got != want:
			return fmt.Errorf("%w: %s", errCorrupt, path)
		}
	}
	return nil
}

// readFile reads one file of an entry and checks it.
func (c *Cache) readFile(e *entry, path string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(c.cfg.Dir, path))
	if err != nil {
		return nil, err
	}
	if want := e.Files[path]; (fileSum{Size: int64(len(b)), CRC: checksum(b)}) != want {
		return nil, fmt.Errorf("%w: %s", errCorrupt, path)
	}
	return b, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func sumFile(path string) (fileSum, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileSum{}, err
	}
	defer f.Close()
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.Copy(h, f)
	return fileSum{Size: n, CRC: h.Sum32()}, err
}

// writeSynced writes a file whose bytes are on disk when it returns.
func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes a rename in dir durable, where directories can be synced.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
