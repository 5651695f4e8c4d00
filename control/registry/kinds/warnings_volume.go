package kinds

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumeWarnings tell of sources that are mounted no more, and of files of one
// volume that are in each other's way.
func volumeWarnings(volumes []corev1.Volume, in *field.Path) (texts []string) {
	for i, v := range volumes {
		at := in.Index(i)
		texts = append(texts, goneWarnings(at, gonePlugin{"photonPersistentDisk", v.PhotonPersistentDisk != nil}, gonePlugin{"gitRepo", v.GitRepo != nil},
			gonePlugin{"scaleIO", v.ScaleIO != nil}, gonePlugin{"flocker", v.Flocker != nil}, gonePlugin{"storageOS", v.StorageOS != nil},
			gonePlugin{"quobyte", v.Quobyte != nil}, gonePlugin{"glusterfs", v.Glusterfs != nil})...)
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			texts = append(texts, claimWarnings(&v.Ephemeral.VolumeClaimTemplate.Spec, at.Child("ephemeral", "volumeClaimTemplate", "spec"))...)
		}
		texts = append(texts, goneWarnings(at, gonePlugin{"cephfs", v.CephFS != nil}, gonePlugin{"rbd", v.RBD != nil})...)
	}
	for i := range volumes {
		texts = append(texts, overlapWarnings(&volumes[i])...)
	}
	return texts
}

// volumeFile is a file of a volume, with what it comes from if that is one of
// several.
type volumeFile struct{ path, source string }

func (f volumeFile) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// overlaps says that one file is the other, or a directory on its way.
func (f volumeFile) overlaps(o volumeFile) bool {
	if f.path == "" || o.path == "" {
		return false
	}
	return strings.HasPrefix(o.path+"/", f.path+"/") || strings.HasPrefix(f.path+"/", o.path+"/")
}

func overlapWarnings(v *corev1.Volume) []string {
	switch {
	case v.ConfigMap != nil:
		return overlapping(v.Name, fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keyFiles(v.ConfigMap.Items, ""))
	case v.Secret != nil:
		return overlapping(v.Name, fmt.Sprintf("Secret %q", v.Secret.SecretName), keyFiles(v.Secret.Items, ""))
	case v.DownwardAPI != nil:
		return overlapping(v.Name, "DownwardAPI", downwardFiles(v.DownwardAPI.Items, ""))
	case v.Projected == nil:
		return nil
	}
	var texts []string
	var files []volumeFile
	for _, s := range v.Projected.Sources {
		if s == (corev1.VolumeProjection{}) {
			texts = append(texts, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
		}
		files = append(files, projectedFiles(&s)...)
	}
	return append(texts, overlapping(v.Name, "Projected", files)...)
}

func overlapping(volume, source string, files []volumeFile) (texts []string) {
	for i := range files {
		files[i].path = strings.TrimRight(files[i].path, "/")
		for _, o := range files[:i] {
			if files[i].overlaps(o) {
				texts = append(texts, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, source, files[i], o))
			}
		}
	}
	return texts
}

func keyFiles(items []corev1.KeyToPath, source string) (files []volumeFile) {
	for _, item := range items {
		files = append(files, volumeFile{item.Path, source})
	}
	return files
}

func downwardFiles(items []corev1.DownwardAPIVolumeFile, source string) (files []volumeFile) {
	for _, item := range items {
		files = append(files, volumeFile{item.Path, source})
	}
	return files
}

func projectedFiles(s *corev1.VolumeProjection) (files []volumeFile) {
	switch {
	case s.ConfigMap != nil && s.ConfigMap.Items != nil:
		return keyFiles(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))
	case s.Secret != nil && s.Secret.Items != nil:
		return keyFiles(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))
	case s.DownwardAPI != nil && s.DownwardAPI.Items != nil:
		return downwardFiles(s.DownwardAPI.Items, "DownwardAPI")
	case s.ServiceAccountToken != nil:
		return []volumeFile{{s.ServiceAccountToken.Path, "ServiceAccountToken"}}
	case s.ClusterTrustBundle != nil:
		name := deref(s.ClusterTrustBundle.SignerName)
		if s.ClusterTrustBundle.Name != nil {
			name = *s.ClusterTrustBundle.Name
		}
		return []volumeFile{{s.ClusterTrustBundle.Path, fmt.Sprintf("ClusterTrustBundle %q", name)}}
	case s.PodCertificate != nil:
		for _, f := range []volumeFile{{s.PodCertificate.CertificateChainPath, "PodCertificate chain"}, {s.PodCertificate.KeyPath, "PodCertificate key"},
			{s.PodCertificate.CredentialBundlePath, "PodCertificate credential bundle"}} {
			if f.path != "" {
				files = append(files, f)
			}
		}
	}
	return files
}
