// Package h2 serves HTTP/2 (RFC 9113) to handlers of net/http.
//
// The server of net/http passes each request through five goroutines: one reads
// frames, one keeps the connection, one runs the handler, and two more write
// the head and the rest of the answer, each with a call of the kernel. For
// answers as small as those of an API that is half of what a request costs.
// Here are two: the connection's, which only reads, and the handler's, which
// writes its frames itself. What several handlers have to say at once leaves
// in one record. All state of a connection is under one mutex, which is never
// held while something waits.
//
// Frames are parsed, and header fields compressed, by golang.org/x/net/http2.
// There is no server push and no extended CONNECT; priorities are ignored, as
// RFC 9113 allows.
package h2
