package apiserver

// Lending: what finds no place of its own level takes one of another level that
// lends it (lendablePercent, borrowingLimitPercent of a
// PriorityLevelConfiguration). A lent place goes back to its level when its
// request is done, if somebody waits there, and to the next who waits here
// otherwise. No two levels are locked at the same time.

// mayBorrow says that the limit is not reached. The lock is held.
func (s *seats) mayBorrow() bool {
	return len(s.lenders) > 0 && (s.borrows < 0 || s.borrowed < s.borrows)
}

// borrow takes a place of somebody who lends one; nil: nobody does.
func (s *seats) borrow() (lender *seats) {
	s.mu.Lock()
	if !s.mayBorrow() {
		s.mu.Unlock()
		return nil
	}
	s.borrowed++
	lenders := s.lenders
	s.mu.Unlock()
	for _, lender := range lenders {
		if lender.lend() {
			return lender
		}
	}
	s.mu.Lock()
	s.borrowed--
	s.mu.Unlock()
	return nil
}

// lend gives a place away, if there is one to lend.
func (s *seats) lend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free <= 0 || s.lent >= s.lendable {
		return false
	}
	s.free--
	s.lent++
	return true
}

// pull borrows places for those who wait, as long as somebody lends.
func (s *seats) pull() {
	for s.wanted() {
		lender := s.borrow()
		if lender == nil || !s.pass(lender) {
			return
		}
	}
}

// wanted says that somebody waits for a place.
func (s *seats) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting > 0
}

// pass gives a borrowed place to the next who waits, or back if nobody does.
func (s *seats) pass(lender *seats) bool {
	s.mu.Lock()
	within := s.borrows < 0 || s.borrowed <= s.borrows // the limit may be lower by now
	if s.waiting > 0 && within {
		first := s.next()
		first.lender = lender
		close(first.given)
		s.mu.Unlock()
		return true
	}
	s.borrowed--
	s.mu.Unlock()
	lender.returned()
	return false
}

// giveBack ends the use of a borrowed place: its own level comes first.
func (s *seats) giveBack(lender *seats) {
	if !lender.wanted() && !lender.shrunk() {
		s.pass(lender)
		return
	}
	s.mu.Lock()
	s.borrowed--
	s.mu.Unlock()
	lender.returned()
}

// shrunk says that more is lent than may be, since that became less.
func (s *seats) shrunk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent > s.lendable || s.free < 0
}

// returned takes a lent place back.
func (s *seats) returned() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lent--
	s.free++
	s.seat()
}
