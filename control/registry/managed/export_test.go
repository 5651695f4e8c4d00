package managed

import "wherry.dev/wherry/control/api"

// Slow is Update by the library alone.
func (t *Tracker) Slow(live, obj api.Object, w Writer) error { return t.slow(live, obj, w) }

// Fast is Update without the library; false says that it cannot.
func (t *Tracker) Fast(live, obj api.Object, w Writer) bool { return t.fast(live, obj, w) }
