package kinds

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// maxFileMode is the largest mode of a file in a volume.
	maxFileMode  = 0o777
	fileModeText = "must be a number between 0 and 0777 (octal), both inclusive"
)

// volumeFields are what fieldRef of a downward API volume may name, beside
// labels and annotations.
var volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}

// checkVolumes checks the volumes and notes those without an error: containers
// can use no others.
func (v *podValidator) checkVolumes(at *field.Path) (errs field.ErrorList) {
	v.volumes = map[string]*corev1.VolumeSource{}
	for i := range v.spec.Volumes {
		volume, at := &v.spec.Volumes[i], at.Index(i)
		found := validateSource(&volume.VolumeSource, at)
		found = append(found, v.volumeName(volume, at.Child("name"))...)
		if len(found) == 0 {
			v.volumes[volume.Name] = &volume.VolumeSource
		}
		errs = append(errs, found...)
		if claim := volume.PersistentVolumeClaim; claim != nil && v.makesClaim(claim.ClaimName) {
			errs = append(errs, field.Invalid(at.Child("persistentVolumeClaim", "claimName"), claim.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return errs
}

func (v *podValidator) volumeName(volume *corev1.Volume, at *field.Path) (errs field.ErrorList) {
	if volume.Ephemeral != nil && v.name != "" && volume.Name != "" {
		claim := v.name + "-" + volume.Name
		for _, text := range apivalidation.NameIsDNSSubdomain(claim, false) {
			errs = append(errs, field.Invalid(at, volume.Name, fmt.Sprintf("PVC name %q: %v", claim, text)))
		}
	}
	if iscsi := volume.ISCSI; iscsi != nil && iscsi.InitiatorName != nil && len(volume.Name+":"+iscsi.TargetPortal) > 64 {
		errs = append(errs, field.Invalid(at, volume.Name,
			"Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
	}
	if volume.Name == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, invalid(at, volume.Name, validation.IsDNS1123Label(volume.Name))...)
	}
	if _, twice := v.volumes[volume.Name]; twice {
		errs = append(errs, field.Duplicate(at, volume.Name))
	}
	return errs
}

// makesClaim says that a claim will be made for one of the pod's own volumes.
func (v *podValidator) makesClaim(name string) bool {
	return v.name != "" && slices.ContainsFunc(v.spec.Volumes, func(o corev1.Volume) bool {
		return o.Ephemeral != nil && name == v.name+"-"+o.Name
	})
}

// hostPathTypes are in the order of their texts.
var hostPathTypes = []corev1.HostPathType{corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
	corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket}

func validateHostPath(h *corev1.HostPathVolumeSource, at *field.Path) (errs field.ErrorList) {
	if h.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	return all(noBackstep(h.Path, at.Child("path")), optionalOf(h.Type, at.Child("type"), hostPathTypes...))
}

func validateEmptyDir(e *corev1.EmptyDirVolumeSource, at *field.Path) field.ErrorList {
	if limit := e.SizeLimit; limit != nil && limit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > maxFileMode) {
		return field.ErrorList{field.Invalid(at, *mode, fileModeText)}
	}
	return nil
}

func validateSecretSource(s *corev1.SecretVolumeSource, at *field.Path) field.ErrorList {
	return all(required(s.SecretName, at.Child("secretName"), ""), validateFiles(s.Items, s.DefaultMode, at))
}

func validateConfigMapSource(s *corev1.ConfigMapVolumeSource, at *field.Path) field.ErrorList {
	return all(required(s.Name, at.Child("name"), ""), validateFiles(s.Items, s.DefaultMode, at))
}

// validateFiles checks the items of a configMap or secret volume.
func validateFiles(items []corev1.KeyToPath, mode *int32, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateMode(mode, at.Child("defaultMode"))...)
	for i := range items {
		errs = append(errs, validateFile(&items[i], at.Child("items").Index(i))...)
	}
	return errs
}

func validateFile(item *corev1.KeyToPath, at *field.Path) field.ErrorList {
	return all(required(item.Key, at.Child("key"), ""), validateFilePath(item.Path, at.Child("path")), validateMode(item.Mode, at.Child("mode")))
}

// validateFilePath checks a path within a volume.
func validateFilePath(p string, at *field.Path) (errs field.ErrorList) {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs = localPath(p, at)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

// localPath wants a relative path that does not climb.
func localPath(p string, at *field.Path) (errs field.ErrorList) {
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, noBackstep(p, at)...)
}

func noBackstep(p string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

func validateDownwardSource(s *corev1.DownwardAPIVolumeSource, at *field.Path) (errs field.ErrorList) {
	errs = validateMode(s.DefaultMode, at.Child("defaultMode"))
	for i := range s.Items {
		errs = append(errs, validateDownward(&s.Items[i], at)...)
	}
	return errs
}

// validateDownward checks a file of a downward API volume. Its errors name the
// volume, not the item.
func validateDownward(item *corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := validateFilePath(item.Path, at.Child("path"))
	switch {
	case item.FieldRef != nil:
		errs = append(errs, validateFieldRef(item.FieldRef, volumeFields, at.Child("fieldRef"))...)
		if item.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case item.ResourceFieldRef != nil:
		errs = append(errs, validateResourceRef(item.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, validateMode(item.Mode, at.Child("mode"))...)
}

// projection is a check of a projected volume: the paths that it has seen.
type projection struct {
	at    *field.Path
	paths sets.Set[string]
	errs  field.ErrorList
}

func validateProjected(p *corev1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	check := projection{at: at, paths: sets.New[string](), errs: validateMode(p.DefaultMode, at.Child("defaultMode"))}
	for i := range p.Sources {
		at := at.Child("sources").Index(i)
		if check.source(&p.Sources[i], at) > 1 {
			check.add(field.ErrorList{field.Forbidden(at, "may not specify more than 1 volume type per source")})
		}
	}
	return check.errs
}

func (c *projection) add(errs field.ErrorList) { c.errs = append(c.errs, errs...) }

// once notes a path, with what an error about its second use shows.
func (c *projection) once(file, shown string) {
	if c.paths.Has(file) {
		c.add(field.ErrorList{field.Invalid(c.at, shown, "conflicting duplicate paths")})
	}
	c.paths.Insert(file)
}

// source checks one source and says how many it is.
func (c *projection) source(s *corev1.VolumeProjection, at *field.Path) (n int) {
	if s.Secret != nil {
		n++
		c.files(s.Secret.Name, s.Secret.Items, at.Child("secret"))
	}
	if s.ConfigMap != nil {
		n++
		c.files(s.ConfigMap.Name, s.ConfigMap.Items, at.Child("configMap"))
	}
	if s.DownwardAPI != nil {
		n++
		for i := range s.DownwardAPI.Items {
			item := &s.DownwardAPI.Items[i]
			c.add(validateDownward(item, at.Child("downwardAPI")))
			if item.Path != "" {
				c.once(item.Path, item.Path)
			}
		}
	}
	if t := s.ServiceAccountToken; t != nil {
		n++
		c.add(validateTokenSeconds(t.ExpirationSeconds, at.Child("serviceAccountToken", "expirationSeconds")))
		c.add(validateFilePath(t.Path, c.at.Child("path")))
	}
	if s.ClusterTrustBundle != nil {
		n++
		c.bundle(s.ClusterTrustBundle, at.Child("clusterTrustBundle"))
	}
	if s.PodCertificate != nil {
		n++
		c.certificate(s.PodCertificate, at.Child("podCertificate"))
	}
	return n
}

func (c *projection) files(name string, items []corev1.KeyToPath, at *field.Path) {
	c.add(required(name, at.Child("name"), ""))
	for i := range items {
		c.add(validateFile(&items[i], at.Child("items").Index(i)))
		if items[i].Path != "" {
			c.once(items[i].Path, name)
		}
	}
}

func (c *projection) bundle(b *corev1.ClusterTrustBundleProjection, at *field.Path) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		c.add(field.ErrorList{field.Invalid(at, hubValue{b}, "only one of name and signerName may be used")})
	case b.Name != nil:
		c.add(required(*b.Name, at.Child("name"), "must be a valid object name"))
		own := (*b.Name)[strings.LastIndexByte(*b.Name, ':')+1:] // what follows the signer
		for _, text := range apivalidation.NameIsDNSSubdomain(own, false) {
			c.add(field.ErrorList{field.Invalid(at.Child("name"), *b.Name, "not a valid clustertrustbundlename: "+text)})
		}
		if b.LabelSelector != nil {
			c.add(field.ErrorList{field.Invalid(at.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified")})
		}
	case b.SignerName != nil:
		c.add(required(*b.SignerName, at.Child("signerName"), "must be a valid signer name"))
		c.add(validateSignerName(*b.SignerName, at.Child("signerName")))
		c.add(metav1validation.ValidateLabelSelector(b.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector")))
	default:
		c.add(field.ErrorList{field.Required(at, "either name or signerName must be specified")})
	}
	c.add(validateFilePath(b.Path, at.Child("path")))
	c.once(b.Path, b.Path)
}

// keyTypes are the keys that a node can make for a pod's certificate.
var keyTypes = []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"}

func (c *projection) certificate(p *corev1.PodCertificateProjection, at *field.Path) {
	c.add(validateSignerName(p.SignerName, at.Child("signerName")))
	c.add(knownOf(p.KeyType, at.Child("keyType"), keyTypes...))
	if s := p.MaxExpirationSeconds; s != nil {
		most := mostPodCertificateSeconds(p.SignerName)
		if *s < minPodCertificateSeconds {
			c.add(field.ErrorList{field.Invalid(at.Child("maxExpirationSeconds"), *s, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", minPodCertificateSeconds))})
		}
		if *s > most {
			c.add(field.ErrorList{field.Invalid(at.Child("maxExpirationSeconds"), *s, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most))})
		}
	}
	any := false
	for _, file := range []struct{ name, path string }{{"credentialBundlePath", p.CredentialBundlePath}, {"keyPath", p.KeyPath},
		{"certificateChainPath", p.CertificateChainPath}} {
		if file.path == "" {
			continue
		}
		any = true
		c.add(validateFilePath(file.path, at.Child(file.name)))
		c.once(file.path, file.path)
	}
	if !any {
		c.add(field.ErrorList{field.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")})
	}
}

// minTokenSeconds is the shortest life of a projected token.
const minTokenSeconds = 600

// validateTokenSeconds checks how long a token is wanted for.
func validateTokenSeconds(s *int64, at *field.Path) field.ErrorList {
	switch {
	case s != nil && *s < minTokenSeconds:
		return field.ErrorList{field.Invalid(at, *s, "may not specify a duration less than 10 minutes")}
	case s != nil && *s > 1<<32:
		return field.ErrorList{field.Invalid(at, *s, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}
