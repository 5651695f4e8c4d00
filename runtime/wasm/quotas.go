package wasm

import (
	"sync"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// quotas are the bounds of the directories that containers have mounted: one
// for each, however many containers and mounts there are. They are forgotten
// with the last container and measured anew for the next one. The zero value
// is ready.
type quotas struct {
	mu    sync.Mutex
	inUse map[string]*quotaUse // by directory
}

type quotaUse struct {
	quota *wasi.Quota
	users int
}

// mounts makes a container's mounts. release must be called when no guest uses
// them any more.
func (q *quotas) mounts(list []sandbox.Mount) (all []wasi.Mount, release func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var held []string
	for _, m := range list {
		mount := wasi.Mount{Source: m.Source, SubPath: m.SubPath, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Later != nil {
			mount.Make, mount.File = m.Later.Make, m.Later.File
		}
		if m.MaxBytes > 0 || m.MaxFiles > 0 {
			mount.Quota = q.acquire(m)
			held = append(held, m.Source)
		}
		all = append(all, mount)
	}
	return all, sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, source := range held {
			if use := q.inUse[source]; use.users > 1 {
				use.users--
			} else {
				delete(q.inUse, source)
			}
		}
	})
}

// acquire returns the quota of a mount's directory. The first user's bounds
// stand: they come from the volume, not from the mount.
func (q *quotas) acquire(m sandbox.Mount) *wasi.Quota {
	use := q.inUse[m.Source]
	if use == nil {
		use = &quotaUse{quota: wasi.NewQuota(m.Source, m.MaxBytes, m.MaxFiles)}
		if q.inUse == nil {
			q.inUse = map[string]*quotaUse{}
		}
		q.inUse[m.Source] = use
	}
	use.users++
	return use.quota
}
