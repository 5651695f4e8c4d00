package scheduler

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestParseSettings(t *testing.T) {
	s, err := ParseSettings("scheduler.yaml", []byte(`
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
percentageOfNodesToScore: 30
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 70
  plugins:
    multiPoint:
      disabled: [{name: DefaultPreemption}]
    filter:
      disabled: [{name: TaintToleration}]
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 5}, {name: ImageLocality}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}, {name: example.com/gpu}]}
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway}]
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [packed]}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.InitialBackoff != 2*time.Second || s.MaxBackoff != 20*time.Second || len(s.Profiles) != 2 {
		t.Fatalf("%+v", s)
	}
	if p := s.Profiles[0]; p.SchedulerName != Name || p.PercentageOfNodesToScore != 30 || !p.preempts || len(p.filters) != len(filters()) {
		t.Errorf("%+v", p)
	}
	p := s.Profiles[1]
	if p.SchedulerName != "packing" || p.PercentageOfNodesToScore != 70 || p.preempts || p.Scoring.Type != MostAllocated ||
		p.Scoring.Resources[0].Weight != 3 || len(p.SpreadDefaults) != 1 || p.implied {
		t.Errorf("%+v", p)
	}
	for _, f := range p.filters {
		if f.name == "TaintToleration" {
			t.Error("a disabled filter is there")
		}
	}
	for _, w := range p.scorers {
		if want := map[string]int64{"NodeResourcesFit": 5, "ImageLocality": 1}[w.name]; w.weight != want {
			t.Errorf("%s weighs %d, want %d", w.name, w.weight, want)
		}
	}
	snap := snapshotOf(node("a", roomyNode), node("b", roomyNode, label("pool", "packed"), taint("x", "y", corev1.TaintEffectNoSchedule)))
	if got, why := Pick(pod("p", ""), snap, p, random()); got != "b" {
		t.Errorf("picked %q (%v)", got, why)
	}
}

func TestParseSettingsSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"profiles: [", "f.yaml: line 1"},
		{"- 1", "f.yaml:1:1: configuration: want a mapping"},
		{"kind: Pod", `f.yaml:1:7: kind: "Pod" is not supported; there are: KubeSchedulerConfiguration`},
		{"apiVersion: v1\nprofils: []", "f.yaml:2:1: configuration: unknown field \"profils\""},
		{"percentageOfNodesToScore: 101", "f.yaml:1:27: percentageOfNodesToScore: 101 is not in the range 0 to 100"},
		{"percentageOfNodesToScore: many", `f.yaml:1:27: percentageOfNodesToScore: "many" is not a whole number`},
		{"podInitialBackoffSeconds: 60", "podMaxBackoffSeconds: 10s is less than the initial back-off, 1m0s"},
		{"profiles:\n- {schedulerName: a}\n- {schedulerName: a}", `f.yaml:3:3: profiles: there are two for schedulerName "a"`},
		{"profiles:\n- plugins: {score: {enabled: [{name: Nope}]}}", `f.yaml:2:38: score: there is no plugin "Nope"`},
		{"profiles:\n- plugins: {multiPoint: {disabled: [{name: DefaultBinder}]}}", "DefaultBinder cannot be disabled"},
		{"profiles:\n- pluginConfig: [{name: NodeName, args: {}}]", `"NodeName" takes no arguments`},
		{"profiles:\n- pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: -1}}]", "hardPodAffinityWeight: -1 is not in the range 0 to 100"},
		{"profiles:\n- pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio}}}]", "needs requestedToCapacityRatio.shape"},
		{"profiles:\n- pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway}]}}]",
			"defaultConstraints need defaultingType: List"},
		{"podMaxBackoffSeconds: 20\npodMaxBackoffSeconds: 30", "is set already in line 1"},
	} {
		if _, err := ParseSettings("f.yaml", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

func TestScoringShapes(t *testing.T) {
	ratio := Scoring{Type: RequestedToCapacityRatio, Shape: []ShapePoint{{0, 0}, {50, 10}, {100, 5}}}
	for _, tt := range []struct {
		s         Scoring
		used, all int64
		want      int64
	}{
		{Scoring{Type: LeastAllocated}, 25, 100, 75}, {Scoring{Type: LeastAllocated}, 125, 100, 0},
		{Scoring{Type: MostAllocated}, 25, 100, 25}, {Scoring{Type: MostAllocated}, 125, 100, 100},
		{ratio, 0, 100, 0}, {ratio, 25, 100, 50}, {ratio, 50, 100, 100}, {ratio, 100, 100, 50},
	} {
		if got := tt.s.score(tt.used, tt.all); got != tt.want {
			t.Errorf("%s of %d/%d: %d, want %d", tt.s.Type, tt.used, tt.all, got, tt.want)
		}
	}
}
