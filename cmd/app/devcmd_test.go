package app

import (
	"testing"

	"wherry.dev/wherry/cmd/app/dev"
	"wherry.dev/wherry/runtime/agent"
)

// TestInterpretIsOneWord: package dev asks nodes for what package agent does.
func TestInterpretIsOneWord(t *testing.T) {
	if dev.Interpret != agent.AnnotationInterpret {
		t.Errorf("dev says %q, nodes hear %q", dev.Interpret, agent.AnnotationInterpret)
	}
}
