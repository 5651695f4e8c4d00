package app

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"wherry.dev/wherry/control/controller"
)

// The flags about HorizontalPodAutoscalers are named as kube-controller-manager
// names them.
const (
	hpaPeriod     = "horizontal-pod-autoscaler-sync-period"
	hpaWindow     = "horizontal-pod-autoscaler-downscale-stabilization"
	hpaTolerance  = "horizontal-pod-autoscaler-tolerance"
	hpaInitialize = "horizontal-pod-autoscaler-cpu-initialization-period"
	hpaReadiness  = "horizontal-pod-autoscaler-initial-readiness-delay"
)

// addAutoscaling adds the flags that set the figures of autoscalers.
func addAutoscaling(f *pflag.FlagSet, a *controller.Autoscaling) {
	f.DurationVar(&a.Period, hpaPeriod, a.Period, "time between two looks at a HorizontalPodAutoscaler")
	f.DurationVar(&a.Window, hpaWindow, a.Window, "how long the highest advice counts before a target gets smaller, unless its autoscaler says so itself")
	f.Float64Var(&a.Tolerance, hpaTolerance, a.Tolerance, "how far a metric may be from its target, as a part of it, before an autoscaler acts")
	f.DurationVar(&a.Initialization, hpaInitialize, a.Initialization, "how long a pod's use of the processor may be that of its start")
	f.DurationVar(&a.Readiness, hpaReadiness, a.Readiness, "how long after its start a pod may become ready for the first time")
}

func checkAutoscaling(a controller.Autoscaling) error {
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{hpaPeriod, a.Period}, {hpaWindow, a.Window}, {hpaInitialize, a.Initialization}, {hpaReadiness, a.Readiness}} {
		if d.value <= 0 {
			return fmt.Errorf("--%s is %s: want a time greater than zero", d.flag, d.value)
		}
	}
	if a.Tolerance <= 0 {
		return fmt.Errorf("--%s is %v: want a number greater than zero", hpaTolerance, a.Tolerance)
	}
	return nil
}
