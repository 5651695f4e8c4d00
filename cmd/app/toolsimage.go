package app

import (
	"io"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/wasm/tools"
)

// ToolsImage is the image of the built-in tools, for "kubectl debug" and for
// pods that are a shell.
const ToolsImage = "wherry.dev/tools"

// builtinImages are the images that every node has.
func builtinImages() ([]image.Builtin, error) {
	module, err := io.ReadAll(tools.Open())
	if err != nil {
		return nil, err
	}
	return []image.Builtin{{Ref: ToolsImage, Module: module, Entrypoint: []string{"sh"}}}, nil
}
