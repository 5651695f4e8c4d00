//go:build !linux

package agent

import (
	"runtime"
	"runtime/metrics"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// totalMemory is a guess where the system is not asked; Config.Capacity says
// it better.
func totalMemory() int64 { return 8 << 30 }

// What the system is not asked for.
const minMemory, minDisk = 0, 0

func diskSize(string) int64 { return 0 }

// busyTime is that of this process at least, as Go counts it.
func busyTime() time.Duration {
	sample := []metrics.Sample{{Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64 {
		return 0
	}
	return time.Duration(sample[0].Value.Float64() * float64(time.Second))
}

// machineHealth sees no pressure where the system is not asked.
func (a *Agent) machineHealth() health { return health{} }

func describeMachine(info *corev1.NodeSystemInfo) { info.OSImage = runtime.GOOS }
