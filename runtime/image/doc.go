// Package image brings images to a node and keeps them: it pulls from the
// cluster's own registry and from any other OCI registry, understands both
// layouts of wasm images, verifies what it gets and keeps it by digest. It also
// packs and pushes modules.
//
//	DIR/modules/sha256-<hex>.wasm   modules by the digest of their bytes
//	DIR/manifests/sha256-<hex>.json what a pulled manifest came to: a sandbox.Image
//	DIR/trees/sha256-<hex>/         the files of an image that pods mount as a volume
//	DIR/refs/<escaped reference>    the digest that a reference named when last pulled
//
// The two layouts: the CNCF wasm artifact (config of media type
// application/vnd.wasm.config.v0+json and one application/wasm layer) and the
// older container image, FROM scratch, with a .wasm file in a layer.
package image
