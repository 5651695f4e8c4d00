package openapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// older is what a document of version 2 says beyond its head.
type older struct {
	Paths       section `json:"paths"`
	Definitions section `json:"definitions"`
}

// version2 says what a document of version 3 says in the words of version 2,
// as far as that has them: Kubernetes too leaves out there what is nullable, and
// the alternatives of schemas.
func version2(text []byte) (*older, error) {
	var doc struct {
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	paths, definitions := map[string]any{}, map[string]any{}
	for name, schema := range doc.Components.Schemas {
		definitions[name] = oldSchema(schema)
	}
	for path, item := range doc.Paths {
		next := map[string]any{}
		for key, value := range item {
			switch operation, ok := value.(map[string]any); {
			case key == "parameters":
				next[key] = oldParameters(value)
			case ok && operation["responses"] != nil:
				next[key] = oldOperation(operation)
			}
		}
		paths[path] = next
	}
	again, err := json.Marshal(map[string]any{"paths": paths, "definitions": definitions})
	if err != nil {
		return nil, err
	}
	out := &older{}
	return out, json.Unmarshal(again, out)
}

// oldOperation has its body among the parameters, and media types for all.
func oldOperation(operation map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range operation {
		if key != "requestBody" && key != "parameters" && key != "responses" && key != "servers" && key != "callbacks" {
			out[key] = value
		}
	}
	parameters := oldParameters(operation["parameters"])
	if body, ok := operation["requestBody"].(map[string]any); ok {
		types, schema := contentOf(body)
		if schema == nil {
			schema = map[string]any{"type": "object"}
		}
		parameters = append(parameters, map[string]any{"name": "body", "in": "body", "required": true, "schema": schema})
		out["consumes"] = types
	}
	if len(parameters) > 0 {
		out["parameters"] = parameters
	}
	responses := map[string]any{}
	all, _ := operation["responses"].(map[string]any)
	for code, value := range all {
		response, _ := value.(map[string]any)
		next := map[string]any{"description": "OK"}
		if said, ok := response["description"].(string); ok && said != "" {
			next["description"] = said
		}
		if types, schema := contentOf(response); schema != nil {
			next["schema"], out["produces"] = schema, types
		}
		responses[code] = next
	}
	out["responses"] = responses
	return out
}

// contentOf are the media types of a body, and the schema that they share.
func contentOf(body map[string]any) ([]string, any) {
	content, _ := body["content"].(map[string]any)
	types := slices.Sorted(maps.Keys(content))
	for _, name := range types {
		if media, ok := content[name].(map[string]any); ok && media["schema"] != nil {
			return types, oldSchema(media["schema"])
		}
	}
	return types, nil
}

// oldParameters have their schema's words as their own.
func oldParameters(list any) []any {
	var out []any
	all, _ := list.([]any)
	for _, value := range all {
		parameter, ok := value.(map[string]any)
		if !ok || parameter["$ref"] != nil {
			continue
		}
		next := map[string]any{"type": "string"}
		for key, value := range parameter {
			if key == "schema" {
				schema, _ := oldSchema(value).(map[string]any)
				maps.Copy(next, schema)
			} else if key != "content" && key != "style" && key != "explode" && key != "allowReserved" {
				next[key] = value
			}
		}
		out = append(out, next)
	}
	return out
}

// newer are the words of schemas that version 2 does not have, or that its
// clients take literally: kubectl refuses a field that is not named, whatever an
// alternative says of it.
var newer = []string{"nullable", "oneOf", "anyOf", "allOf", "not", "deprecated", "writeOnly", "default"}

// oldSchema takes a schema over, and all that it is made of.
func oldSchema(value any) any {
	schema, ok := value.(map[string]any)
	if !ok {
		return value
	}
	out := maps.Clone(schema)
	if target, ok := reference(schema); ok {
		out["$ref"] = target
	}
	if schema["nullable"] == true {
		for _, key := range []string{"type", "properties", "items", "additionalProperties", "required"} {
			delete(out, key)
		}
	}
	if schema["x-kubernetes-preserve-unknown-fields"] == true {
		delete(out, "properties")
		delete(out, "required")
	}
	if schema["x-kubernetes-int-or-string"] == true {
		delete(out, "type")
	}
	for _, key := range newer {
		delete(out, key)
	}
	if properties, ok := out["properties"].(map[string]any); ok {
		next := map[string]any{}
		for name, property := range properties {
			next[name] = oldSchema(property)
		}
		out["properties"] = next
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if out[key] != nil {
			out[key] = oldSchema(out[key])
		}
	}
	return out
}

// reference is what a schema refers to, by itself or as its only part.
func reference(schema map[string]any) (string, bool) {
	if all, ok := schema["allOf"].([]any); ok && len(all) == 1 && schema["$ref"] == nil {
		if only, ok := all[0].(map[string]any); ok {
			schema = only
		}
	}
	target, ok := schema["$ref"].(string)
	name, found := strings.CutPrefix(target, "#/components/schemas/")
	return "#/definitions/" + name, ok && found
}
