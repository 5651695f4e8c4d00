package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxEnvFile bounds a file of variables; environments are small.
const maxEnvFile = 1 << 20

// FileKey reads one variable of a file in an emptyDir of the pod whose
// directory dir is. ok is false when there is no such file or key
// (https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-via-file/).
func FileKey(dir string, pod *corev1.Pod, ref *corev1.FileKeySelector) (value string, ok bool, err error) {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == ref.VolumeName })
	if i < 0 || pod.Spec.Volumes[i].EmptyDir == nil {
		return "", false, fmt.Errorf("fileKeyRef: %q is not an emptyDir volume of the pod", ref.VolumeName)
	}
	root, err := os.OpenRoot(EmptyDirPath(dir, &pod.Spec.Volumes[i])) // a guest may have put a link there
	if err != nil {
		return "", false, fmt.Errorf("fileKeyRef: %w", err)
	}
	defer root.Close()
	name := filepath.FromSlash(ref.Path)
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a file", ref.Path) // opening a pipe would wait
	}
	if err != nil {
		return "", false, fmt.Errorf("fileKeyRef: %w", err)
	}
	f, err := root.Open(name)
	if err != nil {
		return "", false, fmt.Errorf("fileKeyRef: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err == nil && len(data) > maxEnvFile {
		err = fmt.Errorf("%q has more than %d bytes", ref.Path, maxEnvFile)
	}
	if err != nil {
		return "", false, fmt.Errorf("fileKeyRef: %w", err)
	}
	all, err := parseEnvFile(string(data))
	if err != nil {
		return "", false, fmt.Errorf("fileKeyRef: %q, %w", ref.Path, err)
	}
	value, ok = all[ref.Key]
	return value, ok, nil
}

// parseEnvFile reads lines of the form KEY='value'. A value may go over
// several lines and is taken as it is; empty lines and those that begin with #
// do not count. The last of several values of a key stands.
func parseEnvFile(text string) (map[string]string, error) {
	all := make(map[string]string)
	for number := 1; text != ""; {
		line, rest, _ := strings.Cut(text, "\n")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			text = rest
			number++
			continue
		}
		key, _, ok := strings.Cut(trimmed, "=")
		at := strings.Index(text, "=") + 1
		if !ok || key == "" || strings.ContainsAny(key, " \t\x00") || !strings.HasPrefix(text[at:], "'") {
			return nil, fmt.Errorf("line %d: want KEY='value'", number)
		}
		value, after, ok := strings.Cut(text[at+1:], "'")
		if !ok {
			return nil, fmt.Errorf("line %d: the value has no closing quote", number)
		}
		tail, rest, _ := strings.Cut(after, "\n")
		if tail = strings.TrimSpace(tail); tail != "" && !strings.HasPrefix(tail, "#") {
			return nil, fmt.Errorf("line %d: %q after the value", number, tail)
		}
		all[key] = value
		number += strings.Count(value, "\n") + 1
		text = rest
	}
	return all, nil
}
