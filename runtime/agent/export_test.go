package agent

// PretendMemory makes the node believe that so many bytes of memory are free.
// It must be called before Run.
func (a *Agent) PretendMemory(free func() int64) {
	a.health = func() health { return health{memory: free(), lowMemory: free() < minMemory} }
}
