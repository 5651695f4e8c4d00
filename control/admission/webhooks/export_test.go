package webhooks

// Known tells how many webhooks of each kind are asked now.
func (w *Webhooks) Known() (mutating, validating int) {
	return len(w.mutating.current(w.mutatingHooks)), len(w.validating.current(w.validatingHooks))
}
