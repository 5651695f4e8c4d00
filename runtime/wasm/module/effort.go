package module

// The compiler's time and memory for a function grow with more than its size:
// for each variable it may keep something at each place where control comes
// together, and again for each loop that it is in. A few kilobytes of code can
// so take hours, and nothing can call off the compilation of a function once it
// has begun. So the product is bounded, far above what toolchains make.
const (
	// maxEffort is about a minute's on a busy core; the functions of Go programs
	// come to a thousandth of it.
	maxEffort = 8 << 20
	// maxEffortOfAll bounds a whole module.
	maxEffortOfAll = 32 * maxEffort
	// maxLoopDepth bounds how many loops may be in one another.
	maxLoopDepth = 64
)

// extent is what the effort of compiling a function depends on.
type extent struct {
	locals  int64
	blocks  int64
	loops   int64 // open now
	deepest int64 // of them
}

func (s *extent) enter() {
	s.blocks += loopBlocks
	s.loops++
	s.deepest = max(s.deepest, s.loops)
}

// loopBlocks is how many blocks a loop counts for, which may be written
// several times.
const loopBlocks = 4

func (s *extent) leave(loop bool) {
	if loop {
		s.loops--
	}
}

func (s *extent) effort() int64 { return s.locals * s.blocks * max(1, s.deepest/4) }

func (s *extent) check() error {
	switch {
	case s.deepest > maxLoopDepth:
		return invalid("a function has %d loops in one another, more than the %d that are supported; build the module without inlining that much", s.deepest, maxLoopDepth)
	case s.effort() > maxEffort:
		return invalid("a function has %d variables and %d blocks, %d loops deep, which would take too long to compile; build the module without inlining that much",
			s.locals, s.blocks, s.deepest)
	}
	return nil
}
