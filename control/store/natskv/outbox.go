package natskv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"wherry.dev/wherry/control/store"
)

// outbox sends writes and takes their answers, through one subscription for all
// of them.
//
// Where this process is the only writer (the embedded server), an answer is also
// how followers learn of the write: they are handed what was sent, with the
// revision that it got, and the writer is answered once they have applied it.
// So a value does not come back from the server, and a writer wakes up once.
type outbox struct {
	conn  *nats.Conn
	inbox string          // the replies' subjects begin so; the number of the copy follows
	note  func(uint64)    // told of each sequence that has been written, or nil
	done  <-chan struct{} // closed when the bucket has ended

	mu        sync.Mutex
	count     uint64
	waiting   map[uint64]*sent
	followers map[*follower]struct{} // empty where others write, too
}

// sent is one copy of a write on its way.
type sent struct {
	record store.Record // the revision comes with the answer
	answer chan answer  // takes the one answer, whether anybody waits or not
}

// answer is what has become of a copy.
type answer struct {
	sequence uint64
	applied  bool // and so durable
	err      error
}

// errNoAnswer: the connection was lost on the way.
var errNoAnswer = errors.New("the connection was lost before an answer came")

func newOutbox(done <-chan struct{}) *outbox {
	return &outbox{
		inbox: nats.NewInbox() + ".", done: done,
		waiting: map[uint64]*sent{}, followers: map[*follower]struct{}{},
	}
}

// open subscribes to the answers. note is told of each sequence that has been
// written, and may be nil.
func (o *outbox) open(conn *nats.Conn, note func(uint64)) error {
	o.conn, o.note = conn, note
	replies, err := conn.Subscribe(o.inbox+"*", o.take)
	if err == nil {
		err = replies.SetPendingLimits(-1, -1)
	}
	if err != nil {
		return fmt.Errorf("listen for answers: %w", err)
	}
	return nil
}

// send sends one copy of a write and waits for its answer. When ctx ends first,
// followers still hear of the write if it arrives.
func (o *outbox) send(ctx context.Context, msg *nats.Msg, record store.Record) (answer, error) {
	s := &sent{record: record, answer: make(chan answer, 1)}
	o.mu.Lock()
	o.count++
	number := o.count
	o.waiting[number] = s
	o.mu.Unlock()
	msg.Reply = o.inbox + strconv.FormatUint(number, 36)
	if err := o.conn.PublishMsg(msg); err != nil {
		o.forget(number)
		return answer{}, err
	}
	timeout := time.NewTimer(apiTimeout)
	defer timeout.Stop()
	for {
		select {
		case a := <-s.answer:
			return a, a.err
		case <-ctx.Done():
			return answer{}, ctx.Err()
		case <-o.done:
			return answer{}, store.ErrClosed
		case <-timeout.C:
			if o.forget(number) {
				return answer{}, nats.ErrTimeout
			}
			// It is written, and waits for the disk.
		}
	}
}

// forget stops waiting for an answer and tells whether it was still to come.
func (o *outbox) forget(number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, waits := o.waiting[number]
	delete(o.waiting, number)
	return waits
}

// lost gives up all answers that a lost connection would have brought.
func (o *outbox) lost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.waiting {
		s.answer <- answer{err: errNoAnswer}
	}
	clear(o.waiting)
}

// take takes one answer. The connection calls it, one at a time and in the order
// in which the stream has written.
func (o *outbox) take(msg *nats.Msg) {
	number, err := strconv.ParseUint(msg.Subject[len(o.inbox):], 36, 64)
	if err != nil {
		return // nobody's
	}
	a := answer{}
	a.sequence, a.err = acknowledged(msg)
	if a.err == nil && o.note != nil {
		o.note(a.sequence)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.waiting[number]
	delete(o.waiting, number)
	if s == nil {
		return // it came too late: followers find the gap
	}
	if a.err != nil || len(o.followers) == 0 {
		s.answer <- a
		return
	}
	s.record.Revision = a.sequence
	for f := range o.followers {
		f.add(stored{record: s.record, writer: s})
	}
}

// join has a follower told of all writes from now on, until it leaves.
func (o *outbox) join(f *follower) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.followers[f] = struct{}{}
}

// leave ends that. Writers that still wait for the follower are answered.
func (o *outbox) leave(f *follower) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.followers, f)
	queue, _ := f.taken()
	release(queue)
}

// release answers the writers of messages that are written and that nobody will
// apply: they see for themselves when they are durable.
func release(queue []stored) {
	for _, s := range queue {
		s.settle(false)
	}
}

// settle answers the writer of a message, if it has one that nobody has answered.
func (s stored) settle(applied bool) {
	if s.writer == nil {
		return
	}
	select {
	case s.writer.answer <- answer{sequence: s.record.Revision, applied: applied}:
	default: // another follower was first
	}
}

// acknowledged reads the stream's answer to a write.
func acknowledged(msg *nats.Msg) (uint64, error) {
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return 0, nats.ErrNoResponders
	}
	if sequence, ok := plainAck(msg.Data); ok {
		return sequence, nil
	}
	var ack struct {
		Sequence uint64 `json:"seq"`
	}
	err := decodeAnswer(msg, &ack)
	return ack.Sequence, err
}

// plainAck reads the answer to a write that is in, {"stream":"S","seq":7}, as
// almost every one is: JSON is slow.
func plainAck(data []byte) (sequence uint64, ok bool) {
	if bytes.Contains(data, []byte(`"error"`)) {
		return 0, false
	}
	_, rest, found := bytes.Cut(data, []byte(`","seq":`))
	if !found {
		return 0, false
	}
	number, _, closed := bytes.Cut(rest, []byte("}"))
	if !closed || bytes.IndexByte(number, ',') >= 0 {
		return 0, false
	}
	sequence, err := strconv.ParseUint(string(number), 10, 64)
	return sequence, err == nil
}

// decodeAnswer decodes a JSON answer, which is an error or what out points to.
func decodeAnswer(msg *nats.Msg, out any) error {
	if bytes.Contains(msg.Data, []byte(`"error"`)) { // seldom
		var failed struct {
			Error *apiError `json:"error"`
		}
		if err := json.Unmarshal(msg.Data, &failed); err != nil {
			return fmt.Errorf("answer on %s: %w", msg.Subject, err)
		}
		if failed.Error != nil {
			return failed.Error
		}
	}
	if err := json.Unmarshal(msg.Data, out); err != nil {
		return fmt.Errorf("answer on %s: %w", msg.Subject, err)
	}
	return nil
}
