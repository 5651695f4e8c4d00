// Package managed keeps metadata.managedFields: which manager has set which
// field of an object, in which version and through which subresource. Updates
// give what they change to their manager; apply patches merge what they say,
// with conflicts about what others own
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/).
//
// The merging is done by apimachinery. This package chooses among its managers
// by version and subresource, converts between versions, and writes the
// entries of plain creations and updates itself, where the result is the same
// and costs a tenth.
package managed
