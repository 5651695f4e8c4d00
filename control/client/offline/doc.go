// Package offline lets a node live without its API server for a while, also
// over restarts of its process. A Client in front of the real one keeps on disk
// what it reads: when the server cannot be reached, lists and objects are
// answered with what was known last, and watches continue from there when it is
// back. Writes are never answered from here.
package offline
