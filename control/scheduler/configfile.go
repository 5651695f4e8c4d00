package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gopkg.in/yaml.v3"
)

const configVersion = "kubescheduler.config.k8s.io/v1"

// ParseSettings reads a KubeSchedulerConfiguration as far as it applies
// (https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/).
// Fields that mean nothing here are errors: nobody should believe that they
// work. All errors of a file are reported, with file, line and column.
func ParseSettings(file string, data []byte) (*Settings, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	r := &configReader{file: file}
	s := DefaultSettings()
	if document.Kind == 0 {
		return s, nil
	}
	r.settings(document.Content[0], s)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return s, nil
}

// configReader collects what is wrong with a file.
type configReader struct {
	file string
	errs []error
}

func (r *configReader) fail(at *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d:%d: %s", r.file, at.Line, at.Column, fmt.Sprintf(format, args...)))
}

// fields is what a mapping may hold.
type fields map[string]func(value *yaml.Node)

// mapping reads a mapping by its fields.
func (r *configReader) mapping(node *yaml.Node, what string, known fields) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		r.fail(node, "%s: want a mapping", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		read, ok := known[key.Value]
		switch {
		case !ok:
			r.fail(key, "%s: unknown field %q; there are: %s", what, key.Value, strings.Join(sortedKeys(known), ", "))
		case seen[key.Value] > 0:
			r.fail(key, "%s: %q is set already in line %d", what, key.Value, seen[key.Value])
		default:
			seen[key.Value] = key.Line
			read(value)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (r *configReader) list(node *yaml.Node, what string, each func(*yaml.Node)) {
	if node.Kind != yaml.SequenceNode {
		r.fail(node, "%s: want a list", what)
		return
	}
	for _, item := range node.Content {
		each(item)
	}
}

func (r *configReader) text(node *yaml.Node, what string, allowed ...string) string {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		r.fail(node, "%s: want a text", what)
		return ""
	}
	if len(allowed) > 0 && !slices.Contains(allowed, node.Value) {
		r.fail(node, "%s: %q is not supported; there are: %s", what, node.Value, strings.Join(allowed, ", "))
	}
	return node.Value
}

func (r *configReader) number(node *yaml.Node, what string, low, high int64) int64 {
	var n int64
	if err := node.Decode(&n); err != nil || node.Tag != "!!int" {
		r.fail(node, "%s: %q is not a whole number", what, node.Value)
	} else if n < low || n > high {
		r.fail(node, "%s: %d is not in the range %d to %d", what, n, low, high)
	}
	return n
}

func (r *configReader) flag(node *yaml.Node, what string) (b bool) {
	if err := node.Decode(&b); err != nil || node.Tag != "!!bool" {
		r.fail(node, "%s: %q is neither true nor false", what, node.Value)
	}
	return b
}

// object reads a value of the Kubernetes API into out.
func (r *configReader) object(node *yaml.Node, what string, out any) {
	var plain any
	err := node.Decode(&plain)
	var data []byte
	if err == nil {
		data, err = json.Marshal(plain)
	}
	if err == nil {
		decoder := json.NewDecoder(strings.NewReader(string(data)))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(out)
	}
	if err != nil {
		r.fail(node, "%s: %v", what, err)
	}
}

func (r *configReader) settings(root *yaml.Node, s *Settings) {
	var percentage int64
	var profiles []*yaml.Node
	r.mapping(root, "configuration", fields{
		"apiVersion": func(n *yaml.Node) { r.text(n, "apiVersion", configVersion) },
		"kind":       func(n *yaml.Node) { r.text(n, "kind", "KubeSchedulerConfiguration") },
		"percentageOfNodesToScore": func(n *yaml.Node) {
			percentage = r.number(n, "percentageOfNodesToScore", 0, 100)
		},
		"podInitialBackoffSeconds": func(n *yaml.Node) {
			s.InitialBackoff = time.Duration(r.number(n, "podInitialBackoffSeconds", 1, 3600)) * time.Second
		},
		"podMaxBackoffSeconds": func(n *yaml.Node) {
			s.MaxBackoff = time.Duration(r.number(n, "podMaxBackoffSeconds", 1, 3600)) * time.Second
		},
		"profiles": func(n *yaml.Node) { r.list(n, "profiles", func(n *yaml.Node) { profiles = append(profiles, n) }) },
	})
	if s.MaxBackoff < s.InitialBackoff {
		r.fail(root, "podMaxBackoffSeconds: %v is less than the initial back-off, %v", s.MaxBackoff, s.InitialBackoff)
	}
	if len(profiles) > 0 {
		s.Profiles = nil
	}
	for _, n := range profiles {
		p := r.profile(n, percentage)
		if slices.ContainsFunc(s.Profiles, func(o *Profile) bool { return o.SchedulerName == p.SchedulerName }) {
			r.fail(n, "profiles: there are two for schedulerName %q", p.SchedulerName)
		}
		s.Profiles = append(s.Profiles, p)
	}
	if len(profiles) == 0 {
		s.Profiles[0].PercentageOfNodesToScore = percentage
	}
}

func (r *configReader) profile(node *yaml.Node, percentage int64) *Profile {
	p := DefaultProfile()
	p.PercentageOfNodesToScore = percentage
	configured := map[string]bool{}
	r.mapping(node, "profile", fields{
		"schedulerName": func(n *yaml.Node) {
			if p.SchedulerName = r.text(n, "schedulerName"); p.SchedulerName == "" {
				r.fail(n, "schedulerName: want a name")
			}
		},
		"percentageOfNodesToScore": func(n *yaml.Node) {
			p.PercentageOfNodesToScore = r.number(n, "percentageOfNodesToScore", 0, 100)
		},
		"plugins": func(n *yaml.Node) { r.plugins(n, p) },
		"pluginConfig": func(n *yaml.Node) {
			r.list(n, "pluginConfig", func(n *yaml.Node) { r.pluginConfig(n, p, configured) })
		},
	})
	if err := p.complete(); err != nil {
		r.fail(node, "addedAffinity: %v", err)
	}
	return p
}

// The plugins that are no filter and no criterion.
var (
	fixedPlugins = []string{"SchedulingGates", "PrioritySort", "DefaultBinder"}
	preemption   = "DefaultPreemption"
)

// plugins reads which plugins are on, and what they weigh. Extension points
// that only go along with a filter or criterion are read and change nothing.
func (r *configReader) plugins(node *yaml.Node, p *Profile) {
	points := fields{}
	for _, point := range []string{"preEnqueue", "queueSort", "preFilter", "preScore", "reserve", "permit", "preBind", "bind", "postBind"} {
		points[point] = func(n *yaml.Node) { r.pluginSet(n, point, p, func(string) bool { return false }) }
	}
	points["filter"] = func(n *yaml.Node) { r.pluginSet(n, "filter", p, func(kind string) bool { return kind == "filter" }) }
	points["score"] = func(n *yaml.Node) { r.pluginSet(n, "score", p, func(kind string) bool { return kind == "score" }) }
	points["postFilter"] = func(n *yaml.Node) {
		r.pluginSet(n, "postFilter", p, func(kind string) bool { return kind == "postFilter" })
	}
	points["multiPoint"] = func(n *yaml.Node) { r.pluginSet(n, "multiPoint", p, func(string) bool { return true }) }
	r.mapping(node, "plugins", points)
}

func (r *configReader) pluginSet(node *yaml.Node, point string, p *Profile, touches func(kind string) bool) {
	var enabled, disabled *yaml.Node
	r.mapping(node, point, fields{
		"enabled":  func(n *yaml.Node) { enabled = n },
		"disabled": func(n *yaml.Node) { disabled = n },
	})
	one := func(n *yaml.Node, on bool) {
		name, weight := "", int64(0)
		var at *yaml.Node = n
		r.mapping(n, point, fields{
			"name":   func(v *yaml.Node) { name, at = r.text(v, "name"), v },
			"weight": func(v *yaml.Node) { weight = r.number(v, "weight", 0, 1<<31-1) },
		})
		switch {
		case name == "*" && !on:
			p.turn("", false, 0, touches)
		case !slices.Contains(pluginNames(), name):
			r.fail(at, "%s: there is no plugin %q; there are: %s", point, name, strings.Join(pluginNames(), ", "))
		case !on && slices.Contains(fixedPlugins, name) && point == "multiPoint":
			r.fail(at, "%s: %s cannot be disabled", point, name)
		default:
			p.turn(name, on, weight, touches)
		}
	}
	if disabled != nil { // first, so that "*" can be followed by what stays
		r.list(disabled, "disabled", func(n *yaml.Node) { one(n, false) })
	}
	if enabled != nil {
		r.list(enabled, "enabled", func(n *yaml.Node) { one(n, true) })
	}
}

// pluginNames are all names that a file may use.
func pluginNames() []string {
	names := append([]string{preemption}, fixedPlugins...)
	for _, f := range filters() {
		names = append(names, f.name)
	}
	for _, s := range scorers() {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// turn switches a plugin, or all with "", on or off where touches says so.
func (p *Profile) turn(name string, on bool, weight int64, touches func(kind string) bool) {
	is := func(other string) bool { return name == "" || name == other }
	if touches("filter") {
		var left []filter
		for _, f := range filters() {
			was := slices.ContainsFunc(p.filters, func(o filter) bool { return o.name == f.name })
			if is(f.name) && on || !is(f.name) && was {
				left = append(left, f)
			}
		}
		p.filters = left
	}
	if touches("score") {
		for i := range p.scorers {
			s := &p.scorers[i]
			switch {
			case !is(s.name):
			case !on:
				s.weight = 0
			case weight > 0:
				s.weight = weight
			case s.weight == 0:
				s.weight = 1
			}
		}
	}
	if touches("postFilter") && is(preemption) {
		p.preempts = on
	}
}

func (r *configReader) pluginConfig(node *yaml.Node, p *Profile, seen map[string]bool) {
	var name, args *yaml.Node
	r.mapping(node, "pluginConfig", fields{"name": func(n *yaml.Node) { name = n }, "args": func(n *yaml.Node) { args = n }})
	if name == nil || args == nil {
		r.fail(node, "pluginConfig: want name and args")
		return
	}
	if seen[name.Value] {
		r.fail(name, "pluginConfig: %s is configured twice", name.Value)
		return
	}
	seen[name.Value] = true
	known := r.arguments(p, name.Value)
	if known == nil {
		r.fail(name, "pluginConfig: %q takes no arguments; these do: DefaultPreemption, InterPodAffinity, NodeAffinity, NodeResourcesFit, PodTopologySpread",
			name.Value)
		return
	}
	known["apiVersion"] = func(n *yaml.Node) { r.text(n, "apiVersion", configVersion) }
	known["kind"] = func(n *yaml.Node) { r.text(n, "kind", name.Value+"Args") }
	r.mapping(args, name.Value, known)
	if name.Value == "PodTopologySpread" && p.implied && len(p.SpreadDefaults) > 0 && !slices.Equal(constraintKeys(p.SpreadDefaults), constraintKeys(systemSpread())) {
		r.fail(args, "PodTopologySpread: defaultConstraints need defaultingType: List")
	}
}

func constraintKeys(list []corev1.TopologySpreadConstraint) (keys []string) {
	for i := range list {
		keys = append(keys, list[i].TopologyKey)
	}
	return keys
}

// arguments are what a plugin can be told, nil for one that takes none.
func (r *configReader) arguments(p *Profile, plugin string) fields {
	switch plugin {
	case preemption:
		return fields{
			"minCandidateNodesPercentage": func(n *yaml.Node) {
				p.CandidateNodesPercentage = int(r.number(n, "minCandidateNodesPercentage", 0, 100))
			},
			"minCandidateNodesAbsolute": func(n *yaml.Node) {
				p.CandidateNodesAbsolute = int(r.number(n, "minCandidateNodesAbsolute", 0, 1<<31-1))
			},
		}
	case "InterPodAffinity":
		return fields{
			"hardPodAffinityWeight": func(n *yaml.Node) {
				p.HardPodAffinityWeight = r.number(n, "hardPodAffinityWeight", 0, 100)
			},
			"ignorePreferredTermsOfExistingPods": func(n *yaml.Node) {
				p.IgnorePreferredTermsOfExistingPods = r.flag(n, "ignorePreferredTermsOfExistingPods")
			},
		}
	case "NodeAffinity":
		return fields{"addedAffinity": func(n *yaml.Node) {
			p.AddedAffinity = &corev1.NodeAffinity{}
			r.object(n, "addedAffinity", p.AddedAffinity)
		}}
	case "NodeResourcesFit":
		return fields{"scoringStrategy": func(n *yaml.Node) { r.scoring(n, &p.Scoring) }}
	case "PodTopologySpread":
		return fields{
			"defaultingType": func(n *yaml.Node) {
				if r.text(n, "defaultingType", "System", "List") == "List" && p.implied {
					if p.implied = false; slices.Equal(constraintKeys(p.SpreadDefaults), constraintKeys(systemSpread())) {
						p.SpreadDefaults = nil
					}
				}
			},
			"defaultConstraints": func(n *yaml.Node) {
				p.SpreadDefaults = nil
				r.object(n, "defaultConstraints", &p.SpreadDefaults)
				for _, c := range p.SpreadDefaults {
					if c.LabelSelector != nil || c.MaxSkew < 1 || c.TopologyKey == "" {
						r.fail(n, "defaultConstraints: want maxSkew above 0, a topologyKey, and no labelSelector, which comes from the pod")
					}
				}
			},
		}
	}
	return nil
}

func (r *configReader) scoring(node *yaml.Node, s *Scoring) {
	r.mapping(node, "scoringStrategy", fields{
		"type": func(n *yaml.Node) {
			s.Type = r.text(n, "type", LeastAllocated, MostAllocated, RequestedToCapacityRatio)
		},
		"resources": func(n *yaml.Node) {
			s.Resources = nil
			r.list(n, "resources", func(n *yaml.Node) {
				one := ResourceWeight{Weight: 1}
				r.mapping(n, "resources", fields{
					"name":   func(n *yaml.Node) { one.Name = corev1.ResourceName(r.text(n, "name")) },
					"weight": func(n *yaml.Node) { one.Weight = r.number(n, "weight", 1, 100) },
				})
				s.Resources = append(s.Resources, one)
			})
		},
		"requestedToCapacityRatio": func(n *yaml.Node) {
			r.mapping(n, "requestedToCapacityRatio", fields{"shape": func(n *yaml.Node) {
				s.Shape = nil
				r.list(n, "shape", func(n *yaml.Node) { s.Shape = append(s.Shape, r.point(n, s.Shape)) })
			}})
		},
	})
	if s.Type == RequestedToCapacityRatio && len(s.Shape) == 0 {
		r.fail(node, "scoringStrategy: %s needs requestedToCapacityRatio.shape", s.Type)
	}
}

func (r *configReader) point(node *yaml.Node, before []ShapePoint) (p ShapePoint) {
	r.mapping(node, "shape", fields{
		"utilization": func(n *yaml.Node) { p.Utilization = r.number(n, "utilization", 0, 100) },
		"score":       func(n *yaml.Node) { p.Score = r.number(n, "score", 0, 10) },
	})
	if len(before) > 0 && p.Utilization <= before[len(before)-1].Utilization {
		r.fail(node, "shape: utilization must rise from point to point")
	}
	return p
}
