package bench

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
)

// What a node of ours tells about a pod's start: an event with this reason and a
// message "started in 4.1 ms: image 0.2 ms, compile 1.2 ms".
const startTimings = "StartTimings"

// inner reads the steps of a pod's start on its node; nil when the node tells
// none, as other systems' do not.
func (p podStart) inner(ctx context.Context, pod api.Key) []result.Step {
	const tries, pause = 50, 10 * time.Millisecond // events are written beside everything else
	selector := fields.Set{"involvedObject.name": pod.Name, "reason": startTimings}.AsSelector()
	for range tries {
		list, err := p.env.Client.List(ctx, api.Events.Key(pod.Namespace, ""), api.ListOptions{Fields: selector})
		if err != nil {
			return nil
		}
		for _, item := range list.Items {
			if event, ok := item.(*corev1.Event); ok && event.Reason == startTimings {
				return parseTimings(event.Message)
			}
		}
		sleep(ctx, pause)
	}
	return nil
}

// parseTimings reads the event's message; what it does not understand it leaves
// out.
func parseTimings(message string) []result.Step {
	_, list, _ := strings.Cut(message, ": ")
	var steps []result.Step
	var at time.Duration
	for text := range strings.SplitSeq(list, ", ") {
		name, took, ok := strings.Cut(text, " ")
		length, err := time.ParseDuration(strings.ReplaceAll(took, " ", ""))
		if !ok || err != nil {
			continue
		}
		steps = append(steps, result.Step{Name: name, Begin: at, Length: length})
		at += length
	}
	return steps
}

// split divides the time from begin to end by the medians of the nodes' own
// steps; what is left is the way of the news. Without steps it is one piece.
func split(all []podMarks, begin, end time.Duration) []result.Step {
	var steps []result.Step
	at := begin
	for _, first := range all[0].inner {
		lengths := pick(all, func(m podMarks) time.Duration {
			for _, s := range m.inner {
				if s.Name == first.Name {
					return s.Length
				}
			}
			return 0
		})
		length := min(Percentile(lengths, 50), end-at)
		steps = append(steps, result.Step{Name: "node: " + first.Name, Begin: at, Length: length})
		at += length
	}
	if len(steps) == 0 {
		return []result.Step{{Name: "node starts it, Ready", Begin: begin, Length: end - begin}}
	}
	return append(steps, result.Step{Name: "Ready is told", Begin: at, Length: end - at})
}
