package dev

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Label is on all pods of a project, with its name as value.
const Label = "dev.wherry.dev/project"

// Objects are what runs the project, with its image put in: each container
// whose image is the project's name, with or without a tag, gets image, and
// its pod gets Label.
func (p *Project) Objects(image string) ([]*unstructured.Unstructured, error) {
	text, from, err := p.manifest()
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	used := false
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		content := map[string]any{}
		if err := yaml.Unmarshal(document, &content); err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", from, n, err)
		}
		if len(content) == 0 {
			continue
		}
		object := &unstructured.Unstructured{Object: content}
		if object.GetKind() == "" || object.GetAPIVersion() == "" || object.GetName() == "" {
			return nil, fmt.Errorf("%s: document %d: apiVersion, kind and metadata.name must be set", from, n)
		}
		used = setImage(content, p.Name, image) || used
		objects = append(objects, object)
	}
	if !used {
		return nil, fmt.Errorf("%s: no container has the image %q: that is the name under which this project is pushed", from, p.Name)
	}
	return objects, nil
}

// manifest returns the manifest's text and where it is from.
func (p *Project) manifest() (text []byte, from string, err error) {
	if p.Manifest != "" {
		text, err = os.ReadFile(p.Manifest)
		if err != nil {
			return nil, "", fmt.Errorf("read the manifest: %w", err)
		}
		return text, p.Manifest, nil
	}
	made, err := template.ParseFS(starters, "starters/web.yaml.tmpl")
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	if err := made.Execute(&out, p); err != nil {
		return nil, "", err
	}
	return bytes.ReplaceAll(out.Bytes(), []byte("8080"), fmt.Append(nil, p.Port)), "the made-up manifest", nil
}

// setImage walks through an object to its pods' templates. It tells whether
// one of their containers had the name's image.
func setImage(value any, name, image string) (found bool) {
	switch value := value.(type) {
	case map[string]any:
		if spec, ok := value["spec"].(map[string]any); ok && replaceImages(spec, name, image) {
			found = true
			mark(value, name)
		}
		for _, child := range value {
			found = setImage(child, name, image) || found
		}
	case []any:
		for _, child := range value {
			found = setImage(child, name, image) || found
		}
	}
	return found
}

// replaceImages changes the containers of a pod's spec; false: it is none, or
// none of its containers has the image.
func replaceImages(spec map[string]any, name, image string) (found bool) {
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := spec[list].([]any)
		for _, item := range containers {
			container, _ := item.(map[string]any)
			current, _ := container["image"].(string)
			if base, _, _ := strings.Cut(current, ":"); base == name {
				container["image"] = image
				found = true
			}
		}
	}
	return found
}

// mark sets Label on a pod's template.
func mark(template map[string]any, name string) {
	metadata, ok := template["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		template["metadata"] = metadata
	}
	labels, ok := metadata["labels"].(map[string]any)
	if !ok {
		labels = map[string]any{}
		metadata["labels"] = labels
	}
	labels[Label] = name
}
