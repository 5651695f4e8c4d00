//go:build !unix

package auth

// syncDir does nothing: a directory cannot be synced here, the file system's
// own journal covers the rename.
func syncDir(string) error { return nil }
