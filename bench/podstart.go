package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
)

// podStarts measures pods of each guest: from an image that the nodes have,
// node by node where there are several, and from one that they have never seen.
func podStarts(ctx context.Context, env *Env, rec *Recorder) error {
	if err := env.pushAll(ctx); err != nil {
		return err
	}
	nodes := rec.Report.Nodes
	for _, guest := range env.Guests {
		for _, node := range nodes {
			name := fmt.Sprintf("part=pod/guest=%s/from=cache", guest.Name)
			if len(nodes) > 1 {
				name += "/node=" + node.Name
			}
			cached := func(context.Context) (string, error) { return guest.Image, nil }
			if err := (podStart{env: env, guest: guest, node: node.Name}).measure(ctx, rec, name, env.Samples, cached); err != nil {
				return err
			}
		}
		name := fmt.Sprintf("part=pod/guest=%s/from=zero", guest.Name)
		if guest.Module == nil || env.Push == nil {
			rec.skip(name, "it needs the guest's module and a registry to push it to")
			continue
		}
		fresh := func(ctx context.Context) (string, error) {
			ref := uniqueName("bench-zero") + ":v1"
			return ref, env.Push(ctx, ref, stranger(guest.Module))
		}
		// Each one is compiled, so there are fewer.
		if err := (podStart{env: env, guest: guest}).measure(ctx, rec, name, max(1, env.Samples/10), fresh); err != nil {
			return err
		}
	}
	return nil
}

// podStart is the start of a pod through the API.
type podStart struct {
	env   *Env
	guest Guest
	node  string // where it must run; "" for anywhere
	quiet bool   // nodes do not tell their steps
}

// podMarks are how long after the POST began the steps had ended, and what the
// node says of its part.
type podMarks struct {
	created, bound, ready, served time.Duration
	inner                         []result.Step
}

func (p podStart) measure(ctx context.Context, rec *Recorder, name string, samples int, image func(context.Context) (string, error)) error {
	one := rec.result("%s", name)
	var all []podMarks
	for i := range p.env.Repeat + 1 {
		rec.Say("%s: %s of %d", one.Key(), ordinal(i), p.env.Repeat)
		var starts []podMarks
		for n := range samples {
			ref, err := image(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			m, err := p.start(ctx, ref)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if i == 0 && n == 0 {
				p.quiet = m.inner == nil
			}
			starts = append(starts, m)
		}
		if i > 0 {
			all = append(all, starts...)
			addSamples(one, pick(starts, func(m podMarks) time.Duration { return m.served }),
				result.Metric{Value: float64(Percentile(pick(starts, func(m podMarks) time.Duration { return m.ready }), 50).Microseconds()), Unit: "ready-us"})
		}
	}
	one.Steps = waterfallOf(all)
	rec.add(one)
	return nil
}

// waterfallOf puts the medians of the steps one behind the other.
func waterfallOf(all []podMarks) (steps []result.Step) {
	begin := time.Duration(0)
	for _, leg := range []struct {
		name string
		end  func(podMarks) time.Duration
	}{
		{"API answers the POST", func(m podMarks) time.Duration { return m.created }},
		{"scheduler binds", func(m podMarks) time.Duration { return m.bound }},
		{"", func(m podMarks) time.Duration { return m.ready }},
		{"first byte", func(m podMarks) time.Duration { return m.served }},
	} {
		end := max(begin, Percentile(pick(all, leg.end), 50))
		if leg.name == "" {
			steps = append(steps, split(all, begin, end)...)
		} else {
			steps = append(steps, result.Step{Name: leg.name, Begin: begin, Length: end - begin})
		}
		begin = end
	}
	return steps
}

// patience bounds one operation that is measured one by one.
const patience = 2 * time.Minute

// start runs one pod up to its first byte and removes it.
func (p podStart) start(ctx context.Context, image string) (m podMarks, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pod := p.env.pod(uniqueName("start"), image, p.guest.Port)
	if p.node != "" {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: p.node}
	}
	events, err := p.env.Client.Watch(ctx, api.Pods.Key(p.env.Namespace, ""), api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", pod.Name)})
	if err != nil {
		return m, fmt.Errorf("watch pods: %w", err)
	}
	defer events.Stop()
	begin := time.Now()
	if _, err := p.env.Client.Create(ctx, api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
		return m, fmt.Errorf("create pod: %w", err)
	}
	m.created = time.Since(begin)
	defer func() { err = errors.Join(err, removePod(ctx, p.env.Client, events, api.Pods.KeyOf(pod))) }()
	var address string
	err = until(ctx, events, func(obj api.Object) bool {
		seen, ok := obj.(*corev1.Pod)
		if !ok {
			return false
		}
		if seen.Spec.NodeName != "" && m.bound == 0 {
			m.bound = time.Since(begin)
		}
		address = seen.Status.PodIP
		return isReady(seen)
	})
	if err != nil {
		return m, fmt.Errorf("wait for pod %s of image %s to be Ready: %w", pod.Name, image, err)
	}
	m.ready = time.Since(begin)
	if err := ask(ctx, net.JoinHostPort(address, strconv.Itoa(int(p.guest.Port)))); err != nil {
		return m, err
	}
	m.served = time.Since(begin)
	if !p.quiet {
		m.inner = p.inner(ctx, api.Pods.KeyOf(pod))
	}
	return m, nil
}

// ask dials until there is an answer: one try, where Ready means what it says.
func ask(ctx context.Context, address string) error {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			err = firstByte(conn)
			stop()
			_ = conn.Close()
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no answer from %s: can this machine reach the pods' network? %w", address, errors.Join(ctx.Err(), err))
		}
		sleep(ctx, time.Millisecond)
	}
}

// removePod deletes a pod at once and waits until it is gone.
func removePod(ctx context.Context, client api.Client, events api.Watch, key api.Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if _, err := client.Delete(ctx, key, api.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		return fmt.Errorf("delete pod: %w", err)
	}
	for {
		event, err := events.Next(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("wait for the pod to be gone: %w", err)
		}
		if event.Type == "DELETED" {
			return nil
		}
	}
}

// pod is one of the benchmark's pods.
func (e *Env) pod(name, image string, port int32) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name, Labels: map[string]string{"bench": "pod"}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(1)),
			Containers: []corev1.Container{{Name: "web", Image: image, Ports: []corev1.ContainerPort{{ContainerPort: port}}}}},
	}
}

// addressOf joins an address and a port.
func addressOf(ip string, port int32) (netip.AddrPort, error) {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address: %w", ip, err)
	}
	return netip.AddrPortFrom(address, uint16(port)), nil
}
