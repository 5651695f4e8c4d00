package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

const (
	rollerName, rollerReplicas, rollerSurge, rollerUnavailable = "web", 10, 3, 2
	setName, setReplicas                                       = "db", 3
	jobCompletions                                             = 6
	flakyJob                                                   = "flaky"
	quotaPods                                                  = 8
)

// rollUser changes a template again and again, whether the last roll-out is
// through or not.
type rollUser struct {
	plane   *mortalPlane
	version int
	patch   func(c *kubernetes.Clientset, version int) error
	// done looks whether the version has been rolled out.
	done func(c *kubernetes.Clientset, version int) (complaint string, err error)
}

func (u *rollUser) use(random *rand.Rand) {
	for !u.plane.over() {
		u.version++
		u.plane.must(func(c *kubernetes.Clientset) error { return u.patch(c, u.version) })
		if random.IntN(2) == 0 {
			u.await()
		} else {
			u.plane.pause(u.plane.ctx, time.Duration(random.IntN(500))*time.Millisecond)
		}
	}
	u.await()
}

func (u *rollUser) await() {
	u.plane.await(func(c *kubernetes.Clientset) (string, error) { return u.done(c, u.version) })
}

func templatePatch(version int) []byte {
	return fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"version":"%d"}}}}}`, version)
}

// deploymentUser is a user of a Deployment.
type deploymentUser struct{ rollUser }

func (p *mortalPlane) newRoller() *deploymentUser {
	surge, unavailable := intstr.FromInt32(rollerSurge), intstr.FromInt32(rollerUnavailable)
	d := &appsv1.Deployment{ObjectMeta: metaNamed(rollerName), Spec: appsv1.DeploymentSpec{Replicas: new(int32(rollerReplicas)),
		RevisionHistoryLimit: new(int32(10000)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": rollerName}},
		Template: versioned(rollerName, 0),
		Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}}}}
	p.must(func(c *kubernetes.Clientset) error {
		_, err := c.AppsV1().Deployments("default").Create(p.ctx, d, createOptions)
		return err
	})
	u := &deploymentUser{rollUser{plane: p,
		patch: func(c *kubernetes.Clientset, version int) error {
			_, err := c.AppsV1().Deployments("default").Patch(p.ctx, rollerName, types.MergePatchType, templatePatch(version), metav1.PatchOptions{})
			return err
		},
		done: func(c *kubernetes.Clientset, version int) (string, error) {
			d, err := c.AppsV1().Deployments("default").Get(p.ctx, rollerName, getOptions)
			if err != nil {
				return "", err
			}
			if s := d.Status; s.ObservedGeneration < d.Generation || s.UpdatedReplicas != rollerReplicas || s.Replicas != rollerReplicas || s.AvailableReplicas != rollerReplicas {
				return fmt.Sprintf("version %d of the Deployment is at %+v", version, s), nil
			}
			return "", nil
		}}}
	u.await()
	return u
}

// check looks for what was doubled or left over by roll-outs.
func (u *deploymentUser) check() {
	p, want := u.plane, fmt.Sprint(u.version)
	sets, err := p.client.Load().AppsV1().ReplicaSets("default").List(p.ctx, listOptions)
	if err != nil {
		p.t.Error(err)
		return
	}
	versions, revisions := map[string]string{}, map[string]string{}
	for _, rs := range sets.Items {
		version, revision := rs.Spec.Template.Annotations["version"], rs.Annotations["deployment.kubernetes.io/revision"]
		if other := versions[version]; other != "" {
			p.t.Errorf("%s and %s are of version %s both", rs.Name, other, version)
		}
		if other := revisions[revision]; other != "" {
			p.t.Errorf("%s and %s are revision %s both", rs.Name, other, revision)
		}
		versions[version], revisions[revision] = rs.Name, rs.Name
		if (*rs.Spec.Replicas > 0) != (version == want) {
			p.t.Errorf("%s of version %s wants %d pods; the version is %s", rs.Name, version, *rs.Spec.Replicas, want)
		}
	}
}

// setUser is a user of a StatefulSet.
type setUser struct{ rollUser }

func (p *mortalPlane) newSet() *setUser {
	set := &appsv1.StatefulSet{ObjectMeta: metaNamed(setName), Spec: appsv1.StatefulSetSpec{Replicas: new(int32(setReplicas)),
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": setName}}, Template: versioned(setName, 0)}}
	p.must(func(c *kubernetes.Clientset) error {
		_, err := c.AppsV1().StatefulSets("default").Create(p.ctx, set, createOptions)
		return err
	})
	u := &setUser{rollUser{plane: p,
		patch: func(c *kubernetes.Clientset, version int) error {
			_, err := c.AppsV1().StatefulSets("default").Patch(p.ctx, setName, types.MergePatchType, templatePatch(version), metav1.PatchOptions{})
			return err
		},
		done: func(c *kubernetes.Clientset, version int) (string, error) {
			set, err := c.AppsV1().StatefulSets("default").Get(p.ctx, setName, getOptions)
			if err != nil {
				return "", err
			}
			s := set.Status
			if s.ObservedGeneration < set.Generation || s.ReadyReplicas != setReplicas || s.UpdatedReplicas != setReplicas || s.CurrentRevision != s.UpdateRevision {
				return fmt.Sprintf("version %d of the StatefulSet is at %+v", version, s), nil
			}
			return "", nil
		}}}
	u.await()
	return u
}

func (u *setUser) check() {
	p := u.plane
	for i := range setReplicas {
		name := fmt.Sprintf("%s-%d", setName, i)
		pod, err := p.client.Load().CoreV1().Pods("default").Get(p.ctx, name, getOptions)
		if err != nil {
			p.t.Error(err)
		} else if got := pod.Annotations["version"]; got != fmt.Sprint(u.version) {
			p.t.Errorf("%s is of version %s, want %d", name, got, u.version)
		}
	}
}

// jobUser makes indexed Jobs, one after the other, and one with a pod that fails.
type jobUser struct {
	plane *mortalPlane
	made  int
}

func (u *jobUser) use(random *rand.Rand) {
	u.create(flakyJob)
	for !u.plane.over() {
		name := fmt.Sprint("job-", u.made)
		u.create(name)
		if random.IntN(2) == 0 {
			u.await(name)
		}
		u.plane.pause(u.plane.ctx, time.Duration(random.IntN(300))*time.Millisecond)
	}
	for i := 1; i < u.made; i++ {
		u.await(fmt.Sprint("job-", i))
	}
	u.await(flakyJob)
}

func (u *jobUser) create(name string) {
	u.made++
	template := versioned("", 0)
	template.Labels, template.Spec.RestartPolicy = nil, corev1.RestartPolicyNever
	job := &batchv1.Job{ObjectMeta: metaNamed(name), Spec: batchv1.JobSpec{Completions: new(int32(jobCompletions)), Parallelism: new(int32(4)),
		CompletionMode: new(batchv1.IndexedCompletion), Template: template}}
	u.plane.must(func(c *kubernetes.Clientset) error {
		_, err := c.BatchV1().Jobs("default").Create(u.plane.ctx, job, createOptions)
		return err
	})
}

func (u *jobUser) await(name string) {
	u.plane.await(func(c *kubernetes.Clientset) (string, error) {
		job, err := c.BatchV1().Jobs("default").Get(u.plane.ctx, name, getOptions)
		if err != nil || job.Status.CompletionTime != nil {
			return "", err
		}
		return fmt.Sprintf("%s is at %+v", name, job.Status), nil
	})
}

// check compares what each Job has counted with the pods that there were: they
// stay after their end.
func (u *jobUser) check() {
	p := u.plane
	jobs, err := p.client.Load().BatchV1().Jobs("default").List(p.ctx, listOptions)
	if err != nil {
		p.t.Error(err)
		return
	}
	pods, err := p.client.Load().CoreV1().Pods("default").List(p.ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel})
	if err != nil {
		p.t.Error(err)
		return
	}
	ends := map[string]int{}
	for _, pod := range pods.Items {
		job := pod.Labels[batchv1.JobNameLabel]
		ends[fmt.Sprint(job, pod.Status.Phase)]++
		ends[fmt.Sprint(job, pod.Status.Phase, pod.Annotations[batchv1.JobCompletionIndexAnnotation])]++
	}
	if len(jobs.Items) != u.made {
		p.t.Errorf("%d Jobs, want %d", len(jobs.Items), u.made)
	}
	for _, job := range jobs.Items {
		failed := 0
		if job.Name == flakyJob {
			failed = 1
		}
		s := job.Status
		if s.Succeeded != jobCompletions || int(s.Failed) != failed || s.CompletedIndexes != fmt.Sprintf("0-%d", jobCompletions-1) || s.UncountedTerminatedPods != nil &&
			len(s.UncountedTerminatedPods.Succeeded)+len(s.UncountedTerminatedPods.Failed) > 0 {
			p.t.Errorf("%s, of whose pods %d failed, has counted %+v", job.Name, failed, s)
		}
		if n := ends[fmt.Sprint(job.Name, corev1.PodSucceeded)]; n != jobCompletions || ends[fmt.Sprint(job.Name, corev1.PodFailed)] != failed {
			p.t.Errorf("%s has %d pods that succeeded, and %d that failed", job.Name, n, ends[fmt.Sprint(job.Name, corev1.PodFailed)])
		}
		for i := range jobCompletions {
			if n := ends[fmt.Sprint(job.Name, corev1.PodSucceeded, i)]; n != 1 {
				p.t.Errorf("index %d of %s has succeeded %d times", i, job.Name, n)
			}
		}
	}
}

// quotaUser creates and deletes pods in a namespace that has room for few.
type quotaUser struct {
	plane *mortalPlane
	mu    sync.Mutex
	have  map[string]bool // by name: whether it was kept; false: deleted
}

func (p *mortalPlane) newQuotaUser() *quotaUser {
	p.must(func(c *kubernetes.Clientset) error {
		_, err := c.CoreV1().Namespaces().Create(p.ctx, &corev1.Namespace{ObjectMeta: metaNamed(limitedNamespace)}, createOptions)
		return err
	})
	quota := &corev1.ResourceQuota{ObjectMeta: metaNamed("few"), Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(quotaPods, resource.DecimalSI)}}}
	p.must(func(c *kubernetes.Clientset) error {
		_, err := c.CoreV1().ResourceQuotas(limitedNamespace).Create(p.ctx, quota, createOptions)
		return err
	})
	p.await(func(c *kubernetes.Clientset) (string, error) {
		q, err := c.CoreV1().ResourceQuotas(limitedNamespace).Get(p.ctx, "few", getOptions)
		if err == nil && len(q.Status.Hard) == 0 {
			return "the quota has no status", nil
		}
		return "", err
	})
	return &quotaUser{plane: p, have: map[string]bool{}}
}

func (u *quotaUser) use(random *rand.Rand) {
	p := u.plane
	for n := 0; !p.over(); n++ {
		name := fmt.Sprintf("pod-%x-%d", random.Uint32(), n)
		if u.create(p.ctx, name) && random.IntN(3) > 0 {
			u.delete(name)
		} else if name, ok := u.any(); ok && random.IntN(2) == 0 {
			u.delete(name) // or nothing would ever be created again
		}
		p.pause(p.ctx, time.Duration(random.IntN(100))*time.Millisecond)
	}
}

func (u *quotaUser) delete(name string) {
	u.note(name, false)
	p := u.plane
	p.must(func(c *kubernetes.Clientset) error {
		err := c.CoreV1().Pods(limitedNamespace).Delete(p.ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil // a try whose answer was lost, or another user
		}
		return err
	})
}

// any is one of the pods that are kept.
func (u *quotaUser) any() (name string, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, kept := range u.have {
		if kept {
			return name, true
		}
	}
	return "", false
}

func (u *quotaUser) note(name string, kept bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.have[name] = kept
}

// create says whether the pod is there now. It is never scheduled, so that its
// end needs no node.
func (u *quotaUser) create(ctx context.Context, name string) bool {
	p := u.plane
	pod := &corev1.Pod{ObjectMeta: metaNamed(name), Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "wherry.dev/never"}},
		Containers: []corev1.Container{{Name: "c", Image: "hello:v1"}}}}
	refused := p.do(ctx, func(c *kubernetes.Clientset) error {
		_, err := c.CoreV1().Pods(limitedNamespace).Create(ctx, pod, createOptions)
		return err
	})
	if refused != nil && !apierrors.IsForbidden(refused) && !apierrors.IsAlreadyExists(refused) {
		p.t.Error(refused)
	}
	// A try whose answer was lost may have made it before another was refused.
	err := p.do(ctx, func(c *kubernetes.Clientset) error {
		_, err := c.CoreV1().Pods(limitedNamespace).Get(ctx, name, getOptions)
		return err
	})
	if err == nil {
		u.note(name, true)
	} else if refused == nil {
		p.t.Errorf("%s was created, and is not there: %v", name, err)
	}
	var pods *corev1.PodList
	if err := p.do(ctx, func(c *kubernetes.Clientset) (err error) {
		pods, err = c.CoreV1().Pods(limitedNamespace).List(ctx, listOptions)
		return err
	}); err != nil {
		p.t.Error(err)
	} else if len(pods.Items) > quotaPods {
		p.t.Errorf("%d pods in a namespace with room for %d", len(pods.Items), quotaPods)
	}
	return err == nil
}

func (u *quotaUser) check() {
	p := u.plane
	pods, err := p.client.Load().CoreV1().Pods(limitedNamespace).List(p.ctx, listOptions)
	if err != nil {
		p.t.Error(err)
		return
	}
	there := map[string]bool{}
	for _, pod := range pods.Items {
		there[pod.Name] = true
	}
	for name, kept := range u.have {
		if there[name] != kept {
			p.t.Errorf("%s: there %v, want %v", name, there[name], kept)
		}
		delete(there, name)
	}
	for name := range there {
		p.t.Errorf("nobody has made %s", name)
	}
	p.await(func(c *kubernetes.Clientset) (string, error) {
		q, err := c.CoreV1().ResourceQuotas(limitedNamespace).Get(p.ctx, "few", getOptions)
		if err != nil {
			return "", err
		}
		if used := q.Status.Used[corev1.ResourcePods]; used.Value() != int64(len(pods.Items)) {
			return fmt.Sprintf("the quota says %s of %d pods", used.String(), len(pods.Items)), nil
		}
		return "", nil
	})
}
