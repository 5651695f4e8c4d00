//go:build !linux

package agent

import (
	"runtime"

	corev1 "k8s.io/api/core/v1"
)

// totalMemory is a guess where the system is not asked; Config.Capacity says
// it better.
func totalMemory() int64 { return 8 << 30 }

// machineHealth sees no pressure where the system is not asked.
func (a *Agent) machineHealth() health { return health{} }

func describeMachine(info *corev1.NodeSystemInfo) { info.OSImage = runtime.GOOS }
