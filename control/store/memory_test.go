package store_test

import (
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

func memoryPlace(testing.TB) storetest.Place {
	log := store.NewMemory()
	return func(testing.TB) (store.Log, func()) { return log, func() {} }
}

func TestMemoryLog(t *testing.T) { storetest.TestLog(t, memoryPlace) }
