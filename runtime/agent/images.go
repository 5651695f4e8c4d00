package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
)

// imagePeriod is how often the node looks whether images have to go, as
// kubelet does.
const imagePeriod = 5 * time.Minute

// ImageGC is when the node removes images that no pod uses
// (https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle).
type ImageGC struct {
	// High is the use of the disk, in hundredths, from which on unused images
	// are removed, and Low the one that is to be reached. A High of 100: never.
	// Both 0: 85 and 80.
	High, Low int
	// MinAge keeps images that were used less long ago; 0: two minutes.
	MinAge time.Duration
}

// Check says what is wrong, in the names of kubelet's configuration.
func (g ImageGC) Check() error {
	switch {
	case g.High < 0 || g.High > 100:
		return fmt.Errorf("imageGCHighThresholdPercent %d: want 0 to 100", g.High)
	case g.Low < 0 || g.Low > 100:
		return fmt.Errorf("imageGCLowThresholdPercent %d: want 0 to 100", g.Low)
	case g.High != 0 && g.Low >= g.High:
		return fmt.Errorf("imageGCLowThresholdPercent %d: want less than the %d of imageGCHighThresholdPercent", g.Low, g.High)
	case g.MinAge < 0:
		return fmt.Errorf("imageMinimumGCAge %v: want 0s or more", g.MinAge)
	}
	return nil
}

func (g *ImageGC) complete() {
	if g.High == 0 && g.Low == 0 {
		g.High, g.Low = 85, 80
	}
	if g.MinAge == 0 {
		g.MinAge = 2 * time.Minute
	}
}

// imageUser is this node to the store of images.
func (a *Agent) imageUser() image.User {
	u := image.User{InUse: a.imagesInUse}
	if f, ok := a.cfg.Runtime.(sandbox.Forgetter); ok {
		u.Forget = f.Forget
	}
	return u
}

// imagesInUse names what the node's pods run and mount, or may once more.
func (a *Agent) imagesInUse() (images []string, known bool) {
	select {
	case <-a.statics.loaded:
	default:
		return nil, false
	}
	for _, w := range a.workers.all() {
		pod := w.last()
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				images = append(images, list[i].Image)
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			images = append(images, pod.Spec.EphemeralContainers[i].Image)
		}
		for i := range pod.Spec.Volumes {
			if source := pod.Spec.Volumes[i].Image; source != nil {
				images = append(images, source.Reference)
			}
		}
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
			for i := range list {
				images = append(images, list[i].ImageID) // the name may mean another one now
			}
		}
	}
	return images, true
}

// collectImages keeps the use of the disk below the thresholds.
func (a *Agent) collectImages(ctx context.Context) error {
	leave := a.cfg.Images.Join(a.imageUser())
	defer leave()
	tick := time.NewTicker(imagePeriod)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := a.collectImagesOnce(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("images were not collected", "err", err)
			if failed { // once may be chance
				a.recorder.EventFor(a.keeper.ref(), corev1.EventTypeWarning, "ImageGCFailed", "%v", err)
			}
		}
		failed = err != nil
	}
}

// collectImagesOnce removes unused images when the disk is used beyond the high
// threshold, until it is used as far as the low one.
func (a *Agent) collectImagesOnce(ctx context.Context) error {
	h := a.health()
	if a.cfg.ImageGC.High >= 100 || h.diskSize <= 0 {
		return nil
	}
	available := min(h.disk, h.diskSize)
	used := 100 - int(available*100/h.diskSize)
	if used < a.cfg.ImageGC.High {
		return nil
	}
	need := h.diskSize*int64(100-a.cfg.ImageGC.Low)/100 - available
	freed, err := a.cfg.Images.Collect(ctx, image.Need{Bytes: need, MinAge: a.cfg.ImageGC.MinAge})
	if err != nil {
		return err
	}
	a.keeper.poke() // the node has fewer images
	if freed >= need {
		return nil
	}
	text := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %.1f GiB used). "+
		"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.", used, float64(h.diskSize)/(1<<30), freed)
	a.recorder.EventFor(a.keeper.ref(), corev1.EventTypeWarning, "FreeDiskSpaceFailed", "%s", text)
	return errors.New(text)
}

// reclaim removes all unused images from a full disk, before any pod has to go
// for it, and says whether that was enough
// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#reclaim-node-resources).
func (a *Agent) reclaim(ctx context.Context) (enough bool) {
	if _, err := a.cfg.Images.Collect(ctx, image.Need{Bytes: math.MaxInt64, MinAge: a.cfg.ImageGC.MinAge}); err != nil {
		a.log.Warn("unused images were not removed from the full disk", "err", err)
	}
	a.keeper.poke()
	return !a.health().lowDisk
}

// The most that a node tells about its images, as kubelet does.
const (
	imagesShown = 50
	namesShown  = 5
)

// nodeImages are the images on the node as its status has them, the largest
// first.
func (a *Agent) nodeImages() []corev1.ContainerImage {
	kept, err := a.cfg.Images.List()
	if err != nil {
		a.log.Warn("the node's status does not name all images", "err", err)
	}
	var out []corev1.ContainerImage
	for _, k := range kept[:min(len(kept), imagesShown)] {
		var digests, tags []string
		for _, ref := range k.Refs {
			if strings.Contains(ref, "@") {
				continue // which the repository's name below says too
			}
			if full := repository(ref) + "@" + k.Digest; len(digests) == 0 || digests[len(digests)-1] != full {
				digests = append(digests, full)
			}
			tags = append(tags, ref)
		}
		names := append(digests, tags...)
		if len(names) == 0 {
			names = k.Refs
		}
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), namesShown)], SizeBytes: k.Bytes})
	}
	return out
}

// repository cuts the tag off an image reference.
func repository(ref string) string {
	slash := strings.LastIndexByte(ref, '/')
	if colon := strings.LastIndexByte(ref, ':'); colon > slash {
		return ref[:colon]
	}
	return ref
}
