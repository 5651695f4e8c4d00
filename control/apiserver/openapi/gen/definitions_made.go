//go:build openapigen

package main

import "k8s.io/kube-openapi/pkg/common"

// definitions is what openapi-gen has made of the types' sources.
func definitions() common.GetOpenAPIDefinitions { return GetOpenAPIDefinitions }
