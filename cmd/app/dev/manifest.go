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

// Interpret is the annotation of a pod that names a container which is not to be
// compiled.
const Interpret = "wherry.dev/interpret"

// Objects are what runs the project, with its image put in: each container
// whose image is the project's name, with or without a tag, gets image, and
// its pod gets Label. With interpret, its pod also asks for the container not to
// be compiled.
func (p *Project) Objects(image string, interpret bool) ([]*unstructured.Unstructured, error) {
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
		used = setImage(content, p.Name, image, interpret) || used
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
func setImage(value any, name, image string, interpret bool) (found bool) {
	switch value := value.(type) {
	case map[string]any:
		if spec, ok := value["spec"].(map[string]any); ok {
			if containers := replaceImages(spec, name, image); len(containers) > 0 {
				found = true
				mark(value, "labels", Label, name)
				if interpret {
					mark(value, "annotations", Interpret, containers[len(containers)-1])
				}
			}
		}
		for _, child := range value {
			found = setImage(child, name, image, interpret) || found
		}
	case []any:
		for _, child := range value {
			found = setImage(child, name, image, interpret) || found
		}
	}
	return found
}

// replaceImages changes the containers of a pod's spec and names them; none: it
// is no pod's, or none of its containers has the image.
func replaceImages(spec map[string]any, name, image string) (changed []string) {
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := spec[list].([]any)
		for _, item := range containers {
			container, _ := item.(map[string]any)
			current, _ := container["image"].(string)
			if base, _, _ := strings.Cut(current, ":"); base == name {
				container["image"] = image
				called, _ := container["name"].(string)
				changed = append(changed, called)
			}
		}
	}
	return changed
}

// mark sets a label or an annotation on a pod's template.
func mark(template map[string]any, kind, key, to string) {
	metadata, ok := template["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		template["metadata"] = metadata
	}
	marks, ok := metadata[kind].(map[string]any)
	if !ok {
		marks = map[string]any{}
		metadata[kind] = marks
	}
	marks[key] = to
}
