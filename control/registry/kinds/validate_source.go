package kinds

import (
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Defaults of volume sources, as documented in k8s.io/api/core/v1.
const (
	defaultISCSIInterface = "default"
	defaultRBDPool        = "rbd"
	defaultRBDUser        = "admin"
	defaultRBDKeyring     = "/etc/ceph/keyring"
	maxCSIDriverName      = 63
	maxTenant             = 64
	maxLun                = 255
)

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	orPtr(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	orPtr(&d.Kind, corev1.AzureSharedBlobDisk)
	orPtr(&d.FSType, "ext4")
	orPtr(&d.ReadOnly, false)
}

// sources are a check of a volume's sources, of which there must be exactly
// one. Only the first is looked into.
type sources struct {
	at   *field.Path
	n    int
	errs field.ErrorList
}

// source checks one of them, if it is set. name is where errors are, refused
// where one is that comes too much, which Kubernetes does not spell alike.
func source[T any](c *sources, s *T, name, refused string, check func(*T, *field.Path) field.ErrorList) {
	if s == nil {
		return
	}
	if c.n++; c.n > 1 {
		c.errs = append(c.errs, field.Forbidden(c.at.Child(refused), "may not specify more than 1 volume type"))
		return
	}
	c.errs = append(c.errs, check(s, c.at.Child(name))...)
}

func (c *sources) all() field.ErrorList {
	if c.n == 0 {
		c.errs = append(c.errs, field.Required(c.at, "must specify a volume type"))
	}
	return c.errs
}

// validateSource checks what a pod's volume is made of.
func validateSource(s *corev1.VolumeSource, at *field.Path) field.ErrorList {
	c := &sources{at: at}
	source(c, s.EmptyDir, "emptyDir", "", validateEmptyDir)
	source(c, s.HostPath, "hostPath", "hostPath", validateHostPath)
	source(c, s.GitRepo, "gitRepo", "gitRepo", validateGitRepo)
	source(c, s.GCEPersistentDisk, "persistentDisk", "gcePersistentDisk", validateGCEDisk)
	source(c, s.AWSElasticBlockStore, "awsElasticBlockStore", "awsElasticBlockStore", validateAWSDisk)
	source(c, s.Secret, "secret", "secret", validateSecretSource)
	source(c, s.NFS, "nfs", "nfs", validateNFS)
	source(c, s.ISCSI, "iscsi", "iscsi", validateISCSI)
	source(c, s.Glusterfs, "glusterfs", "glusterfs", func(g *corev1.GlusterfsVolumeSource, at *field.Path) field.ErrorList {
		return validateGluster(g.EndpointsName, g.Path, at)
	})
	source(c, s.Flocker, "flocker", "flocker", validateFlocker)
	source(c, s.PersistentVolumeClaim, "persistentVolumeClaim", "persistentVolumeClaim",
		func(p *corev1.PersistentVolumeClaimVolumeSource, at *field.Path) field.ErrorList {
			return required(p.ClaimName, at.Child("claimName"), "")
		})
	source(c, s.RBD, "rbd", "rbd", func(r *corev1.RBDVolumeSource, at *field.Path) field.ErrorList {
		return validateRBD(r.CephMonitors, r.RBDImage, at)
	})
	source(c, s.Cinder, "cinder", "cinder", func(v *corev1.CinderVolumeSource, at *field.Path) field.ErrorList {
		return all(required(v.VolumeID, at.Child("volumeID"), ""), validateLocalRef(v.SecretRef, at.Child("secretRef")))
	})
	source(c, s.CephFS, "cephfs", "cephFS", func(f *corev1.CephFSVolumeSource, at *field.Path) field.ErrorList {
		return required(len(f.Monitors), at.Child("monitors"), "")
	})
	source(c, s.Quobyte, "quobyte", "quobyte", validateQuobyte)
	source(c, s.DownwardAPI, "downwardAPI", "downwarAPI", validateDownwardSource)
	source(c, s.FC, "fc", "fc", validateFC)
	source(c, s.FlexVolume, "flexVolume", "flexVolume", func(f *corev1.FlexVolumeSource, at *field.Path) field.ErrorList {
		return validateFlex(f.Driver, f.Options, at)
	})
	source(c, s.ConfigMap, "configMap", "configMap", validateConfigMapSource)
	source(c, s.AzureFile, "azureFile", "azureFile", func(a *corev1.AzureFileVolumeSource, at *field.Path) field.ErrorList {
		return all(required(a.SecretName, at.Child("secretName"), ""), required(a.ShareName, at.Child("shareName"), ""))
	})
	source(c, s.VsphereVolume, "vsphereVolume", "vsphereVolume", validateVsphere)
	source(c, s.PhotonPersistentDisk, "photonPersistentDisk", "photonPersistentDisk", validatePhoton)
	source(c, s.PortworxVolume, "portworxVolume", "portworxVolume", validatePortworx)
	source(c, s.AzureDisk, "azureDisk", "azureDisk", validateAzureDisk)
	source(c, s.StorageOS, "storageos", "storageos", func(o *corev1.StorageOSVolumeSource, at *field.Path) field.ErrorList {
		return append(validateStorageOS(o.VolumeName, o.VolumeNamespace, at), validateLocalRef(o.SecretRef, at.Child("secretRef"))...)
	})
	source(c, s.Projected, "projected", "projected", validateProjected)
	source(c, s.ScaleIO, "scaleIO", "scaleIO", func(o *corev1.ScaleIOVolumeSource, at *field.Path) field.ErrorList {
		return validateScaleIO(o.Gateway, o.System, o.VolumeName, at)
	})
	source(c, s.CSI, "csi", "csi", validateCSI)
	source(c, s.Ephemeral, "ephemeral", "ephemeral", validateEphemeralVolume)
	source(c, s.Image, "image", "image", func(i *corev1.ImageVolumeSource, at *field.Path) field.ErrorList {
		return oneOf(i.PullPolicy, at.Child("pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	})
	return c.all()
}

// validateName wants a DNS subdomain where there is a name.
func validateName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	return invalid(at, name, apivalidation.NameIsDNSSubdomain(name, false))
}

// validateLocalRef wants a reference to have a name.
func validateLocalRef(ref *corev1.LocalObjectReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return required(ref.Name, at.Child("name"), "")
}

func validateGitRepo(g *corev1.GitRepoVolumeSource, at *field.Path) field.ErrorList {
	return append(required(g.Repository, at.Child("repository"), ""), localPath(g.Directory, at.Child("directory"))...)
}

func validatePartition(n int32, at *field.Path) field.ErrorList {
	if n < 0 || n > 255 {
		return field.ErrorList{field.Invalid(at.Child("partition"), n, validation.InclusiveRangeError(1, 255))}
	}
	return nil
}

func validateGCEDisk(d *corev1.GCEPersistentDiskVolumeSource, at *field.Path) field.ErrorList {
	return append(required(d.PDName, at.Child("pdName"), ""), validatePartition(d.Partition, at)...)
}

func validateAWSDisk(d *corev1.AWSElasticBlockStoreVolumeSource, at *field.Path) field.ErrorList {
	return append(required(d.VolumeID, at.Child("volumeID"), ""), validatePartition(d.Partition, at)...)
}

func validateNFS(s *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := all(required(s.Server, at.Child("server"), ""), required(s.Path, at.Child("path"), ""))
	if !strings.HasPrefix(s.Path, "/") {
		errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

// The forms of names in iSCSI, by how they begin (RFC 3720, section 3.2.6.3).
var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

// validateISCSIName checks a name; long says that the text for one that begins
// wrongly names the right beginnings.
func validateISCSIName(name string, long bool, at *field.Path) field.ErrorList {
	form := iscsiNames[name[:min(3, len(name))]]
	switch {
	case form == nil && long:
		return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
	case form == nil || !form.MatchString(name):
		return field.ErrorList{field.Invalid(at, name, "must be valid format")}
	}
	return nil
}

func validateISCSI(s *corev1.ISCSIVolumeSource, at *field.Path) field.ErrorList {
	errs := all(required(s.TargetPortal, at.Child("targetPortal"), ""), required(s.IQN, at.Child("iqn"), ""))
	if s.IQN != "" {
		errs = append(errs, validateISCSIName(s.IQN, true, at.Child("iqn"))...)
	}
	errs = append(errs, validateLun(s.Lun, s.Lun, at)...)
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(*s.InitiatorName, true, at.Child("initiatorname"))...)
	}
	return errs
}

// validateLun checks the number of a unit; shown is what an error shows.
func validateLun(n int32, shown any, at *field.Path) field.ErrorList {
	if n < 0 || n > maxLun {
		return field.ErrorList{field.Invalid(at.Child("lun"), shown, validation.InclusiveRangeError(0, maxLun))}
	}
	return nil
}

func validateFC(s *corev1.FCVolumeSource, at *field.Path) (errs field.ErrorList) {
	if len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0 {
		errs = append(errs, field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
	}
	if len(s.TargetWWNs) > 0 && len(s.WWIDs) > 0 {
		errs = append(errs, field.Invalid(at.Child("targetWWNs"), s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	switch {
	case len(s.TargetWWNs) == 0:
		return errs
	case s.Lun == nil:
		return append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	return append(errs, validateLun(*s.Lun, s.Lun, at)...)
}

func validateGluster(endpoints, path string, at *field.Path) field.ErrorList {
	return all(required(endpoints, at.Child("endpoints"), ""), required(path, at.Child("path"), ""))
}

func validateFlocker(s *corev1.FlockerVolumeSource, at *field.Path) (errs field.ErrorList) {
	if s.DatasetName == "" && s.DatasetUUID == "" {
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	}
	if s.DatasetName != "" && s.DatasetUUID != "" {
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(s.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), s.DatasetName, "must not contain '/'"))
	}
	return errs
}

func validateRBD(monitors []string, image string, at *field.Path) field.ErrorList {
	return all(required(len(monitors), at.Child("monitors"), ""), required(image, at.Child("image"), ""))
}

func validateQuobyte(s *corev1.QuobyteVolumeSource, at *field.Path) (errs field.ErrorList) {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case s.Registry == "":
		errs = append(errs, field.Required(at.Child("registry"), pairs))
	case len(s.Tenant) > maxTenant:
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for pair := range strings.SplitSeq(s.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(at.Child("registry"), s.Registry, pairs))
			}
		}
	}
	return append(errs, required(s.Volume, at.Child("volume"), "")...)
}

// validateFlex keeps Kubernetes' own options from users.
func validateFlex(driver string, options map[string]string, at *field.Path) field.ErrorList {
	errs := required(driver, at.Child("driver"), "")
	for _, key := range slices.Sorted(maps.Keys(options)) {
		domain, _, _ := strings.Cut(key, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func validateVsphere(s *corev1.VsphereVirtualDiskVolumeSource, at *field.Path) field.ErrorList {
	return required(s.VolumePath, at.Child("volumePath"), "")
}

func validatePhoton(s *corev1.PhotonPersistentDiskVolumeSource, at *field.Path) field.ErrorList {
	return required(s.PdID, at.Child("pdID"), "")
}

func validatePortworx(s *corev1.PortworxVolumeSource, at *field.Path) field.ErrorList {
	return required(s.VolumeID, at.Child("volumeID"), "")
}

func validateAzureDisk(d *corev1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := all(required(d.DiskName, at.Child("diskName"), ""), required(d.DataDiskURI, at.Child("diskURI"), ""),
		optionalOf(d.CachingMode, at.Child("cachingMode"), corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite),
		optionalOf(d.Kind, at.Child("kind"), corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk))
	if d.Kind == nil {
		return errs
	}
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *d.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(d.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), d.DataDiskURI, []string{form}))
	}
	return errs
}

func validateStorageOS(volume, namespace string, at *field.Path) field.ErrorList {
	errs := required(volume, at.Child("volumeName"), "")
	if volume != "" {
		errs = append(errs, invalid(at.Child("volumeName"), volume, validation.IsDNS1123Label(volume))...)
	}
	if namespace != "" {
		errs = append(errs, invalid(at.Child("volumeNamespace"), namespace, validation.IsDNS1123Label(namespace))...)
	}
	return errs
}

func validateScaleIO(gateway, system, volume string, at *field.Path) field.ErrorList {
	return all(required(gateway, at.Child("gateway"), ""), required(system, at.Child("system"), ""), required(volume, at.Child("volumeName"), ""))
}

// validateDriverName checks the name of a CSI driver.
func validateDriverName(name string, at *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(name) > maxCSIDriverName {
		errs = append(errs, field.TooLong(at, name, maxCSIDriverName))
	}
	return append(errs, invalid(at, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}

func validateCSI(s *corev1.CSIVolumeSource, at *field.Path) field.ErrorList {
	errs := validateDriverName(s.Driver, at.Child("driver"))
	switch ref := s.NodePublishSecretRef; {
	case ref == nil:
	case ref.Name == "":
		errs = append(errs, field.Required(at.Child("nodePublishSecretRef", "name"), ""))
	default:
		errs = append(errs, validateName(ref.Name, at.Child("name"))...)
	}
	return errs
}

func validateEphemeralVolume(s *corev1.EphemeralVolumeSource, at *field.Path) field.ErrorList {
	at = at.Child("volumeClaimTemplate")
	t := s.VolumeClaimTemplate
	if t == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	return append(validateTemplateMeta(&t.ObjectMeta, at.Child("metadata")), validateClaim(&t.Spec, at.Child("spec"))...)
}
