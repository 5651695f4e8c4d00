// Package api is the vocabulary of the control plane: what an object, a kind
// and a key are, the scheme and codecs that every process shares, and Client,
// the one door to the API. It knows how things are named and encoded and
// nothing about how they are stored or served.
//
// Objects that come out of a Client, of an informer or of a watch are shared
// and immutable: a caller that wants to change one takes a DeepCopy first.
package api
