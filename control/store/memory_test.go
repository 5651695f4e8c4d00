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

func faultyPlace(testing.TB) storetest.Place {
	log := store.NewMemory()
	return func(testing.TB) (store.Log, func()) {
		return storetest.WithFaults(log, storetest.Chaos(1)), func() {}
	}
}

func TestMemoryLog(t *testing.T) { storetest.TestLog(t, memoryPlace) }

func TestStoreOverMemory(t *testing.T) { storetest.TestStore(t, memoryPlace) }

func TestStoreOverFaultyLog(t *testing.T) { storetest.TestStore(t, faultyPlace) }
