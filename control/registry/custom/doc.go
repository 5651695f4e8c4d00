// Package custom makes kinds out of CustomResourceDefinitions: a definition
// becomes a Strategy like that of a built-in kind, so that the registry's
// engine treats custom resources as it treats pods. Schemas, their defaulting,
// pruning, validation and CEL rules are those of Kubernetes' own library; how
// they come together is here.
package custom
