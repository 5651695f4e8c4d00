// Package reconcile is the engine of all control loops: an Informer keeps a
// local, indexed view of one collection, a Loop calls a Reconciler with the
// names of things that changed, and a Recorder writes events. Retry, back-off
// and metrics are done once, here.
//
// Everything long-lived is a Run(ctx) that blocks until ctx ends and all it
// started has ended; it then returns nil, because ending is what was asked.
package reconcile
