package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"wherry.dev/wherry/runtime/sandbox"
)

// Builtin is an image that every node has without a registry.
type Builtin struct {
	// Ref is its name, without a tag; the tag latest means it too.
	Ref        string
	Module     []byte
	Entrypoint []string
}

// builtinImage answers for a built-in image.
func (s *Store) builtinImage(ref string) (Pulled, bool, error) {
	for i := range s.builtins {
		b := &s.builtins[i]
		if strings.TrimSuffix(ref, ":latest") != b.Ref {
			continue
		}
		digest := b.digest()
		file := s.modulePath(digest)
		if _, err := os.Stat(file); err != nil {
			if err := writeDurably(file, b.Module); err != nil {
				return Pulled{}, true, fmt.Errorf("keep the built-in image %s: %w", b.Ref, err)
			}
		}
		return Pulled{Present: true, Image: sandbox.Image{Ref: ref, Digest: digest, Module: file, ModuleSum: digest, Entrypoint: b.Entrypoint}}, true, nil
	}
	return Pulled{}, false, nil
}

func (b *Builtin) digest() string {
	sum := sha256.Sum256(b.Module)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// isBuiltin says whether a module is that of a built-in image.
func (s *Store) isBuiltin(moduleSum string) bool {
	return slices.ContainsFunc(s.builtins, func(b Builtin) bool { return b.digest() == moduleSum })
}
