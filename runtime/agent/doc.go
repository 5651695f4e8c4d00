// Package agent is the node: it registers itself, keeps its lease, turns the
// pods that are bound to it into sandboxes, probes them, reports their status
// and serves their logs. What kubelet documents for users (phases, conditions,
// reasons, events, back-off, probes) is kept word by word where people or
// programs read it.
//
// Each pod has a worker: a state machine that is run by at most one goroutine
// at a time, woken by whatever concerns the pod (the API, the end of a
// container, a probe, a timer), and by nothing else: an idle pod costs no
// worker goroutine. Whatever may take long (pulls, compilations, orderly
// stops) runs beside the worker and wakes it when it is over.
//
// On disk, below Config.Dir:
//
//	pods/<uid>/volumes/<kind>/<name>                     volumes
//	logs/<namespace>_<name>_<uid>/<container>/<run>.log  output, see podlog
package agent
