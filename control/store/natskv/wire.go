package natskv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"wherry.dev/wherry/control/store"
)

// Headers of messages in the stream.
const (
	headerExpect    = "Nats-Expected-Last-Subject-Sequence"
	headerRollup    = "Nats-Rollup"
	headerTTL       = "Nats-TTL"
	headerSequence  = "Nats-Sequence"  // added to the feed
	headerSubject   = "Nats-Subject"   // added to the feed
	headerOperation = "KV-Operation"   // as key-value clients mark deletions
	headerRequest   = "Wherry-Request" // identifies one Append
)

// Error codes of the JetStream API.
const (
	codeNoMessage         = 10037
	codeWrongLast         = 10071 // "wrong last sequence: N"
	codeWrongLastConstant = 10164 // the same, while another write is on its way
)

// apiError is how JetStream says no.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("jetstream: %s (%d)", e.Description, e.ErrCode)
}

func (e *apiError) conflict() bool {
	return e.ErrCode == codeWrongLast || e.ErrCode == codeWrongLastConstant
}

// last returns the sequence that a conflict names, or 0.
func (e *apiError) last() uint64 {
	_, number, _ := strings.Cut(e.Description, ": ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// request sends a message and decodes the JSON answer, which is an error or
// what out points to.
func (b *Bucket) request(ctx context.Context, msg *nats.Msg, out any) error {
	answer, err := b.conn.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return err
	}
	return decodeAnswer(answer, out)
}

// stored is a message of the stream.
type stored struct {
	record  store.Record
	request string // id of the Append that wrote it
	expect  uint64 // sequence of the message of the key that it followed
	writer  *sent  // who waits for it to be applied, or nil
}

// errNoMessage: the stream has no such message.
var errNoMessage = errors.New("no such message")

// first returns the first message at or after a sequence whose subject matches
// a pattern. The leader answers, so it is never stale.
func (b *Bucket) first(ctx context.Context, sequence uint64, pattern string) (stored, error) {
	return b.message(ctx, map[string]any{"seq": sequence, "next_by_subj": pattern})
}

// last returns the newest message of a subject.
func (b *Bucket) last(ctx context.Context, subject string) (stored, error) {
	return b.message(ctx, map[string]any{"last_by_subj": subject})
}

func (b *Bucket) message(ctx context.Context, which map[string]any) (stored, error) {
	body, err := json.Marshal(which)
	if err != nil {
		return stored{}, err
	}
	var answer struct {
		Message struct {
			Subject  string `json:"subject"`
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg := &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + b.cfg.stream(), Data: body}
	if err := b.request(ctx, msg, &answer); err != nil {
		var refused *apiError
		if errors.As(err, &refused) && refused.ErrCode == codeNoMessage {
			return stored{}, errNoMessage
		}
		return stored{}, fmt.Errorf("read from the stream: %w", err)
	}
	var header nats.Header
	if len(answer.Message.Header) > 0 {
		if header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return stored{}, fmt.Errorf("message %d: %w", answer.Message.Sequence, err)
		}
	}
	return b.cfg.stored(answer.Message.Subject, header, answer.Message.Data, answer.Message.Sequence)
}

// stored makes sense of a message. data is kept.
func (c Config) stored(subject string, header nats.Header, data []byte, sequence uint64) (stored, error) {
	key, err := c.key(subject)
	if err != nil {
		return stored{}, fmt.Errorf("message %d: %w", sequence, err)
	}
	operation := header.Get(headerOperation)
	s := stored{request: header.Get(headerRequest)}
	s.expect, _ = strconv.ParseUint(header.Get(headerExpect), 10, 64) // absent: 0
	s.record = store.Record{
		Key: key, Value: data, Revision: sequence,
		Deleted: operation == "PURGE" || operation == "DEL",
	}
	return s, nil
}

// Last implements store.Shared.
func (b *Bucket) Last(ctx context.Context) (uint64, error) { return b.sequence(ctx) }

// sequence returns the newest sequence of the stream, as its leader knows it.
func (b *Bucket) sequence(ctx context.Context) (uint64, error) {
	var info struct {
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := b.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.INFO." + b.cfg.stream()}, &info); err != nil {
		return 0, fmt.Errorf("ask for the stream's state: %w", err)
	}
	return info.State.Last, nil
}
