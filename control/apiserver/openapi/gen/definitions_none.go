//go:build !openapigen

package main

import "k8s.io/kube-openapi/pkg/common"

// definitions is nil in the first pass, in which the definitions are generated.
func definitions() common.GetOpenAPIDefinitions { return nil }
