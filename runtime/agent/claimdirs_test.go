package agent_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// local makes a volume of this node's disk and a directory with a file for it.
func (c *cluster) local(name string) (dir string) {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: nodeName},
			Annotations: map[string]string{api.AnnotationProvisioner: api.LocalProvisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/elsewhere/" + name}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName}}}}}}}}}
	_, err := c.client.Create(c.Context(), api.PersistentVolumes.KeyOf(pv), pv, api.CreateOptions{})
	c.must(err)
	dir = filepath.Join(c.dir, "claims", name)
	c.must(os.MkdirAll(dir, 0o755))
	c.must(os.WriteFile(filepath.Join(dir, "file"), []byte("kept"), 0o600))
	return dir
}

// dropVolume deletes a volume that nobody protects here.
func (c *cluster) dropVolume(name string) {
	key := api.PersistentVolumes.Key("", name)
	pv, err := api.Get[*corev1.PersistentVolume](c.Context(), c.client, key)
	c.must(err)
	free := pv.DeepCopy()
	free.Finalizers = nil
	_, err = c.client.Update(c.Context(), key, free, api.UpdateOptions{})
	c.must(err)
	_, err = c.client.Delete(c.Context(), key, api.DeleteOptions{})
	c.must(err)
}

// TestDirectoriesOfClaims go with their volumes, while the agent runs and while
// it does not, and never as long as the API has the volume.
func TestDirectoriesOfClaims(t *testing.T) {
	inCluster(t, func(c *cluster) {
		there := func(dir string, want bool) {
			c.Helper()
			synctest.Wait()
			if _, err := os.Stat(filepath.Join(dir, "file")); (err == nil) != want {
				c.Errorf("%s is there: %v, want %v", filepath.Base(dir), err == nil, want)
			}
		}
		node, err := api.Get[*corev1.Node](c.Context(), c.client, api.Nodes.Key("", nodeName))
		c.must(err)
		if want := filepath.Join(c.dir, "claims"); node.Annotations[api.AnnotationClaims] != want {
			c.Errorf("the node says that claims are in %q, want %q", node.Annotations[api.AnnotationClaims], want)
		}
		kept, first, second, unlabelled := c.local("kept"), c.local("first"), c.local("second"), c.local("unlabelled")
		synctest.Wait()
		c.dropVolume("first")
		there(first, false)
		pv, err := api.Get[*corev1.PersistentVolume](c.Context(), c.client, api.PersistentVolumes.Key("", "unlabelled"))
		c.must(err)
		pv = pv.DeepCopy()
		pv.Labels = nil
		_, err = c.client.Update(c.Context(), api.PersistentVolumes.KeyOf(pv), pv, api.UpdateOptions{})
		c.must(err)
		there(unlabelled, true)
		c.stop()
		c.dropVolume("second")
		there(second, true)
		c.startAgent()
		there(second, false)
		there(kept, true)
		there(unlabelled, true)
	})
}
