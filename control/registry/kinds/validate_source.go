package kinds

import (
	"reflect"
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
)

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	orPtr(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	orPtr(&d.Kind, corev1.AzureSharedBlobDisk)
	orPtr(&d.FSType, "ext4")
	orPtr(&d.ReadOnly, false)
}

// oneSource wants exactly one field of a struct of sources to be set. names are
// the set ones, as in JSON.
func oneSource(sources any, at *field.Path) (errs field.ErrorList) {
	v := reflect.ValueOf(sources).Elem()
	n := 0
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			continue
		}
		if n++; n > 1 {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
		}
	}
	if n == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

// validateName wants a DNS subdomain where there is a name.
func validateName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	return invalid(at, name, apivalidation.NameIsDNSSubdomain(name, false))
}

func validateNFS(s *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := all(required(s.Server, at.Child("server"), ""), required(s.Path, at.Child("path"), ""))
	if s.Path != "" && !strings.HasPrefix(s.Path, "/") {
		errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

func validateISCSI(portal, iqn string, lun int32, at *field.Path) field.ErrorList {
	errs := all(required(portal, at.Child("targetPortal"), ""), required(iqn, at.Child("iqn"), ""))
	if iqn != "" && !strings.HasPrefix(iqn, "iqn.") && !strings.HasPrefix(iqn, "eui.") && !strings.HasPrefix(iqn, "naa.") {
		errs = append(errs, field.Invalid(at.Child("iqn"), iqn, "must be valid format"))
	}
	if lun < 0 || lun > 255 {
		errs = append(errs, field.Invalid(at.Child("lun"), lun, validation.InclusiveRangeError(0, 255)))
	}
	return errs
}

func validateFC(s *corev1.FCVolumeSource, at *field.Path) (errs field.ErrorList) {
	switch {
	case len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0:
		errs = append(errs, field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
	case len(s.TargetWWNs) > 0 && len(s.WWIDs) > 0:
		errs = append(errs, field.Invalid(at.Child("targetWWNs"), s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	case len(s.TargetWWNs) > 0 && s.Lun == nil:
		errs = append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	if s.Lun != nil && (*s.Lun < 0 || *s.Lun > 255) {
		errs = append(errs, field.Invalid(at.Child("lun"), s.Lun, validation.InclusiveRangeError(0, 255)))
	}
	return errs
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

func validateSecretRef(ref *corev1.SecretReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return all(required(ref.Name, at.Child("name"), ""), required(ref.Namespace, at.Child("namespace"), ""))
}

// validateRest checks the sources that only drivers of other systems mount: by
// their required fields.
func validateRest(s any, at *field.Path) (errs field.ErrorList) {
	need := func(child, value string) { errs = append(errs, required(value, at.Child(child), "")...) }
	switch s := s.(type) {
	case *corev1.GCEPersistentDiskVolumeSource:
		need("pdName", s.PDName)
		if s.Partition < 0 || s.Partition > 255 {
			errs = append(errs, field.Invalid(at.Child("partition"), s.Partition, validation.InclusiveRangeError(0, 255)))
		}
	case *corev1.AWSElasticBlockStoreVolumeSource:
		need("volumeID", s.VolumeID)
		if s.Partition < 0 || s.Partition > 255 {
			errs = append(errs, field.Invalid(at.Child("partition"), s.Partition, validation.InclusiveRangeError(0, 255)))
		}
	case *corev1.VsphereVirtualDiskVolumeSource:
		need("volumePath", s.VolumePath)
	case *corev1.PhotonPersistentDiskVolumeSource:
		need("pdID", s.PdID)
	case *corev1.PortworxVolumeSource:
		need("volumeID", s.VolumeID)
	case *corev1.AzureDiskVolumeSource:
		need("diskName", s.DiskName)
		need("diskURI", s.DataDiskURI)
	case *corev1.QuobyteVolumeSource:
		need("registry", s.Registry)
		need("volume", s.Volume)
	}
	return errs
}

// validateDriven checks the sources that need a driver, a claim or an image.
func validateDriven(s *corev1.VolumeSource, at *field.Path) (errs field.ErrorList) {
	switch {
	case s.NFS != nil:
		errs = validateNFS(s.NFS, at.Child("nfs"))
	case s.ISCSI != nil:
		errs = validateISCSI(s.ISCSI.TargetPortal, s.ISCSI.IQN, s.ISCSI.Lun, at.Child("iscsi"))
	case s.FC != nil:
		errs = validateFC(s.FC, at.Child("fc"))
	case s.CSI != nil:
		errs = validateDriverName(s.CSI.Driver, at.Child("csi", "driver"))
		if ref := s.CSI.NodePublishSecretRef; ref != nil {
			errs = append(errs, required(ref.Name, at.Child("csi", "nodePublishSecretRef", "name"), "")...)
		}
	case s.Ephemeral != nil:
		at := at.Child("ephemeral", "volumeClaimTemplate")
		if s.Ephemeral.VolumeClaimTemplate == nil {
			return field.ErrorList{field.Required(at, "")}
		}
		errs = validateClaim(&s.Ephemeral.VolumeClaimTemplate.Spec, at.Child("spec"))
	case s.Image != nil:
		errs = oneOf(s.Image.PullPolicy, at.Child("image", "pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	case s.GCEPersistentDisk != nil:
		errs = validateRest(s.GCEPersistentDisk, at.Child("gcePersistentDisk"))
	case s.AWSElasticBlockStore != nil:
		errs = validateRest(s.AWSElasticBlockStore, at.Child("awsElasticBlockStore"))
	case s.VsphereVolume != nil:
		errs = validateRest(s.VsphereVolume, at.Child("vsphereVolume"))
	case s.PhotonPersistentDisk != nil:
		errs = validateRest(s.PhotonPersistentDisk, at.Child("photonPersistentDisk"))
	case s.PortworxVolume != nil:
		errs = validateRest(s.PortworxVolume, at.Child("portworxVolume"))
	case s.AzureDisk != nil:
		errs = validateRest(s.AzureDisk, at.Child("azureDisk"))
	case s.Quobyte != nil:
		errs = validateRest(s.Quobyte, at.Child("quobyte"))
	}
	return errs
}

// validatePersistentSource checks what a PersistentVolume is made of.
func validatePersistentSource(s *corev1.PersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := oneSource(s, at)
	switch {
	case s.HostPath != nil:
		errs = append(errs, validateHostPath(s.HostPath, at.Child("hostPath"))...)
	case s.NFS != nil:
		errs = append(errs, validateNFS(s.NFS, at.Child("nfs"))...)
	case s.ISCSI != nil:
		errs = append(errs, validateISCSI(s.ISCSI.TargetPortal, s.ISCSI.IQN, s.ISCSI.Lun, at.Child("iscsi"))...)
	case s.FC != nil:
		errs = append(errs, validateFC(s.FC, at.Child("fc"))...)
	case s.Local != nil:
		at := at.Child("local", "path")
		if errs = append(errs, required(s.Local.Path, at, "")...); s.Local.Path != "" {
			errs = append(errs, noBackstep(s.Local.Path, at)...)
		}
	case s.CSI != nil:
		at := at.Child("csi")
		errs = append(errs, all(validateDriverName(s.CSI.Driver, at.Child("driver")), required(s.CSI.VolumeHandle, at.Child("volumeHandle"), ""),
			validateSecretRef(s.CSI.ControllerPublishSecretRef, at.Child("controllerPublishSecretRef")),
			validateSecretRef(s.CSI.ControllerExpandSecretRef, at.Child("controllerExpandSecretRef")),
			validateSecretRef(s.CSI.NodePublishSecretRef, at.Child("nodePublishSecretRef")),
			validateSecretRef(s.CSI.NodeStageSecretRef, at.Child("nodeStageSecretRef")),
			validateSecretRef(s.CSI.NodeExpandSecretRef, at.Child("nodeExpandSecretRef")))...)
	case s.GCEPersistentDisk != nil:
		errs = append(errs, validateRest(s.GCEPersistentDisk, at.Child("gcePersistentDisk"))...)
	case s.AWSElasticBlockStore != nil:
		errs = append(errs, validateRest(s.AWSElasticBlockStore, at.Child("awsElasticBlockStore"))...)
	case s.VsphereVolume != nil:
		errs = append(errs, validateRest(s.VsphereVolume, at.Child("vsphereVolume"))...)
	case s.PhotonPersistentDisk != nil:
		errs = append(errs, validateRest(s.PhotonPersistentDisk, at.Child("photonPersistentDisk"))...)
	case s.PortworxVolume != nil:
		errs = append(errs, validateRest(s.PortworxVolume, at.Child("portworxVolume"))...)
	case s.AzureDisk != nil:
		errs = append(errs, validateRest(s.AzureDisk, at.Child("azureDisk"))...)
	case s.Quobyte != nil:
		errs = append(errs, validateRest(s.Quobyte, at.Child("quobyte"))...)
	}
	return errs
}
