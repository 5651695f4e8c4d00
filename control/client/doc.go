// Package client is api.Client over HTTP, for processes that live elsewhere than
// the API server: nodes, mostly. It speaks protobuf through client-go's rest
// client and behaves as the registry does in process; both pass the same suite.
package client
