package module

import (
	"context"
	"fmt"
	"reflect"

	"github.com/tetratelabs/wazero/api"
)

// The compiler's call stack is memory of the host that wazero makes larger as
// calls go deeper, up to some 80 MB, and has no bound that one could set. The
// call's own object holds it; its size can be read, on the goroutine of the
// call. So it is counted at each yield, as if it were memory of the guest.

// stackField is where wazero keeps the stack of a call, a []byte.
const stackField = "stack"

// StackLimitError ends a guest whose calls are so deep that stack and memory
// together are more than its memory limit.
type StackLimitError struct {
	Stack, Memory, Limit int64 // bytes
}

func (e *StackLimitError) Error() string {
	return fmt.Sprintf("stack overflow: the guest's calls take %d bytes, which are beyond the limit of %d bytes with the %d bytes of its memory; "+
		"raise the memory limit or call less deeply", e.Stack, e.Limit, e.Memory)
}

// Call calls a function of an instance. Its stack counts in the gauge, as far
// as the engine tells how large it is. m may be nil.
func (m *Meter) Call(ctx context.Context, f api.Function, memory *Gauge, params ...uint64) ([]uint64, error) {
	if m == nil || memory == nil {
		return f.Call(ctx, params...)
	}
	before := m.stack
	m.stack = callStack{value: stackOf(f), memory: memory}
	defer func() {
		memory.setStack(0)
		m.stack = before
	}()
	return f.Call(ctx, params...)
}

// callStack is the stack of the call under way; only its goroutine uses it.
type callStack struct {
	value  reflect.Value // of stackField; zero: not known
	memory *Gauge
}

func stackOf(f api.Function) reflect.Value {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}
	}
	stack := v.Elem().FieldByName(stackField)
	if !stack.IsValid() || stack.Kind() != reflect.Slice || stack.Type().Elem().Kind() != reflect.Uint8 {
		return reflect.Value{} // the interpreter bounds its frames itself
	}
	return stack
}

// freeStack is what every guest may have beside its limit: ordinary programs
// never come near it.
const freeStack = 256 << 10

// check counts the stack, and ends the guest if that is too much.
func (s callStack) check() {
	if !s.value.IsValid() {
		return
	}
	size := int64(s.value.Len())
	if size <= freeStack {
		size = 0
	}
	if memory, limit, ok := s.memory.setStack(size); !ok {
		panic(&StackLimitError{Stack: size, Memory: memory, Limit: limit})
	}
}
