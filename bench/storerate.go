package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// storeValue is the size of a written value in bytes: a small object.
const storeValue = 1 << 10

// storeRates measures durable writes of new keys, and, on the same disk, a file that is
// appended to and synced after each write: what no store without group commit
// can exceed.
func storeRates(ctx context.Context, env *Env, rec *Recorder) error {
	if err := plainSync(ctx, env, rec); err != nil {
		return err
	}
	if env.OpenStore == nil {
		rec.skip("writers", "the store of another cluster can only be reached through its API; see the scenario api")
		return nil
	}
	dir, err := os.MkdirTemp(env.Dir, "store-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	write, end, err := env.OpenStore(ctx, dir)
	if err != nil {
		return err
	}
	value := []byte(filler)
	value = append(value, make([]byte, storeValue-len(value))...)
	var keys atomic.Int64
	err = env.loads(ctx, rec, "log=wherry", "writers", env.Clients, func(context.Context, int) (operation, func(), error) {
		return func(ctx context.Context, _ int) error {
			return write(ctx, fmt.Sprintf("bench/%d", keys.Add(1)), value)
		}, func() {}, nil
	})
	return errors.Join(err, end())
}

// plainSync has one writer, because a file has one end.
func plainSync(ctx context.Context, env *Env, rec *Recorder) error {
	file, err := os.CreateTemp(env.Dir, "sync-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	one := rec.result("log=fdatasync/writers=1/loop=closed")
	one.Loop = "closed"
	value := make([]byte, storeValue)
	_, err = env.load(ctx, rec, one, 1, func(context.Context, int) (operation, func(), error) {
		return func(context.Context, int) error {
			if _, err := file.Write(value); err != nil {
				return err
			}
			return datasync(file)
		}, func() {}, nil
	}, func(ctx context.Context, op operation) (*loadRun, error) { return closedLoop(ctx, 1, env.Duration, op) })
	if err != nil {
		return err
	}
	rec.add(one)
	return nil
}
