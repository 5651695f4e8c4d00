// Package samples holds the guest that "wherry up --demo" deploys, so that the
// binary needs nothing else. The guests themselves are in the folders below;
// they import nothing of Wherry.
package samples

import _ "embed"

// HelloModule is samples/chello, compiled ("task samples").
//
//go:embed chello/hello.wasm
var HelloModule []byte

// HelloManifest is its Deployment and Service.
//
//go:embed chello/manifest.yaml
var HelloManifest []byte
