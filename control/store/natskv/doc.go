// Package natskv keeps the store's log in a JetStream key-value bucket, in an
// embedded server or in external ones.
//
// The bucket is one stream that any key-value client can read; a revision is a
// sequence of the stream. It is written with raw publishes that expect the
// key's last sequence, because the key-value client's own operations cannot
// give what Log promises: its reads may be stale, its deletions have no
// revision, its watches no errors. A deletion is a rollup that carries the
// last value and goes away after a while.
//
// Durability. An external server acknowledges what its configuration has made
// durable. The embedded server acknowledges what it has handed to the
// operating system; the bucket then waits until a sync that began later has
// put it on disk. One sync serves all writers that wait, so throughput grows
// with their number. Followers see a record only when it is durable. What is
// on disk stays there whatever the server does to its files: see keeper. A
// directory that has lost what was acknowledged is refused: see mark.
package natskv
