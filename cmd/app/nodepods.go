package app

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/agent/podlog"
)

// NodePods is what a node does with pods beyond what the API tells it.
type NodePods struct {
	// StaticDir holds manifests of pods that the node runs by itself; empty: none.
	StaticDir string
	// ShutdownGrace is how long the pods get to end when the node does, and
	// ShutdownCritical the part of it that belongs to critical pods. 0: the API
	// keeps showing them, and the node starts them again when it is started.
	ShutdownGrace, ShutdownCritical time.Duration
	// ImageGC is when images go that no pod uses.
	ImageGC agent.ImageGC
	// LogMaxSize is how large a file of a container's logs gets before the next
	// one is begun, and LogMaxFiles how many are kept. 0: 10Mi and 5.
	LogMaxSize  resource.QuantityValue
	LogMaxFiles int
}

// addTo makes flags of the settings, in kubelet's names.
func (p *NodePods) addTo(f *pflag.FlagSet) {
	f.StringVar(&p.StaticDir, "pod-manifest-path", "", "directory with manifests of static pods, which the node runs by itself")
	f.DurationVar(&p.ShutdownGrace, "shutdown-grace-period", 0, "how long pods get to end when the node ends; 0 to find them again at the next start")
	f.DurationVar(&p.ShutdownCritical, "shutdown-grace-period-critical-pods", 0, "the part of --shutdown-grace-period that belongs to critical pods")
	p.LogMaxSize.Quantity = resource.MustParse("10Mi")
	f.Var(&p.LogMaxSize, "container-log-max-size", "size that a file of a container's logs reaches before the next one is begun")
	f.IntVar(&p.LogMaxFiles, "container-log-max-files", 5, "files of a container's logs that are kept, 2 or more")
	f.IntVar(&p.ImageGC.High, "image-gc-high-threshold", 85, "percent of the disk in use from which on images go that no pod uses; 100 for never")
	f.IntVar(&p.ImageGC.Low, "image-gc-low-threshold", 80, "percent of the disk in use that unused images go down to")
	f.DurationVar(&p.ImageGC.MinAge, "minimum-image-ttl-duration", 2*time.Minute, "how long an image stays after its last use")
}

// check names what is wrong by its flag, and makes the directory absolute.
func (p *NodePods) check() error {
	switch {
	case p.ShutdownGrace < 0 || p.ShutdownGrace > 0 && p.ShutdownGrace < time.Second:
		return fmt.Errorf("--shutdown-grace-period %v: want 0, or at least 1s", p.ShutdownGrace)
	case p.ShutdownCritical < 0 || p.ShutdownCritical > p.ShutdownGrace:
		return fmt.Errorf("--shutdown-grace-period-critical-pods %v: want 0s to the %v of --shutdown-grace-period", p.ShutdownCritical, p.ShutdownGrace)
	case p.LogMaxSize.Value() <= 0:
		return fmt.Errorf("--container-log-max-size %v: want more than 0", &p.LogMaxSize)
	case p.LogMaxFiles < 2:
		return fmt.Errorf("--container-log-max-files %d: want 2 or more", p.LogMaxFiles)
	}
	if err := p.ImageGC.Check(); err != nil {
		return fmt.Errorf("--image-gc-high-threshold, --image-gc-low-threshold, --minimum-image-ttl-duration: %w", err)
	}
	if p.StaticDir == "" {
		return nil
	}
	var err error
	if p.StaticDir, err = filepath.Abs(p.StaticDir); err != nil {
		return fmt.Errorf("--pod-manifest-path: %w", err)
	}
	return nil
}

// configure gives the settings to an agent.
func (p NodePods) configure(c *agent.Config) {
	c.Static = agent.StaticPods{Dir: p.StaticDir, Complete: completePod}
	c.Logs = podlog.Limits{MaxSize: p.LogMaxSize.Value(), MaxFiles: p.LogMaxFiles}
	c.ImageGC = p.ImageGC
	c.Shutdown = agent.Shutdown{Grace: p.ShutdownGrace, Critical: p.ShutdownCritical}
}

// completePod does to a static pod what the API does to others.
func completePod(pod *corev1.Pod) error {
	pods := kinds.Pods()
	pods.Default(pod)
	return pods.Validate(pod).ToAggregate()
}
