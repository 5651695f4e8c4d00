// Package dev takes a guest from its source to a running cluster: it knows what
// a project is, builds it, notices changes, and names the objects that run it.
// Pushing and applying are the caller's.
package dev
