package kinds

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxISCSITarget is how long "volume:portal" may be.
const maxISCSITarget = 64

// validatePersistentSource checks what a PersistentVolume of a name is made of.
func validatePersistentSource(s *corev1.PersistentVolumeSource, name string, at *field.Path) field.ErrorList {
	c := &sources{at: at}
	source(c, s.HostPath, "hostPath", "hostPath", validateHostPath)
	source(c, s.GCEPersistentDisk, "persistentDisk", "gcePersistentDisk", validateGCEDisk)
	source(c, s.AWSElasticBlockStore, "awsElasticBlockStore", "awsElasticBlockStore", validateAWSDisk)
	source(c, s.Glusterfs, "glusterfs", "glusterfs", validatePersistentGluster)
	source(c, s.Flocker, "flocker", "flocker", validateFlocker)
	source(c, s.NFS, "nfs", "nfs", validateNFS)
	source(c, s.RBD, "rbd", "rbd", func(r *corev1.RBDPersistentVolumeSource, at *field.Path) field.ErrorList {
		return validateRBD(r.CephMonitors, r.RBDImage, at)
	})
	source(c, s.Quobyte, "quobyte", "quobyte", validateQuobyte)
	source(c, s.CephFS, "cephfs", "cephFS", func(f *corev1.CephFSPersistentVolumeSource, at *field.Path) field.ErrorList {
		return required(len(f.Monitors), at.Child("monitors"), "")
	})
	source(c, s.ISCSI, "iscsi", "iscsi", func(i *corev1.ISCSIPersistentVolumeSource, at *field.Path) field.ErrorList {
		return validatePersistentISCSI(i, name, at)
	})
	source(c, s.Cinder, "cinder", "cinder", func(v *corev1.CinderPersistentVolumeSource, at *field.Path) field.ErrorList {
		errs := required(v.VolumeID, at.Child("volumeID"), "")
		if ref := v.SecretRef; ref != nil {
			errs = append(errs, all(required(ref.Name, at.Child("secretRef", "name"), ""), required(ref.Namespace, at.Child("secretRef", "namespace"), ""))...)
		}
		return errs
	})
	source(c, s.FC, "fc", "fc", validateFC)
	if s.FlexVolume != nil { // which may come beside another, for what reason ever
		c.n++
		c.errs = append(c.errs, validateFlex(s.FlexVolume.Driver, s.FlexVolume.Options, at.Child("flexVolume"))...)
	}
	source(c, s.AzureFile, "azureFile", "azureFile", validatePersistentAzureFile)
	source(c, s.VsphereVolume, "vsphereVolume", "vsphereVolume", validateVsphere)
	source(c, s.PhotonPersistentDisk, "photonPersistentDisk", "photonPersistentDisk", validatePhoton)
	source(c, s.PortworxVolume, "portworxVolume", "portworxVolume", validatePortworx)
	source(c, s.AzureDisk, "azureDisk", "azureDisk", validateAzureDisk)
	source(c, s.ScaleIO, "scaleIO", "scaleIO", func(o *corev1.ScaleIOPersistentVolumeSource, at *field.Path) field.ErrorList {
		return validateScaleIO(o.Gateway, o.System, o.VolumeName, at)
	})
	source(c, s.Local, "local", "local", func(l *corev1.LocalVolumeSource, at *field.Path) field.ErrorList {
		if l.Path == "" {
			return field.ErrorList{field.Required(at.Child("path"), "")}
		}
		return noBackstep(l.Path, at.Child("path"))
	})
	source(c, s.StorageOS, "storageos", "storageos", func(o *corev1.StorageOSPersistentVolumeSource, at *field.Path) field.ErrorList {
		errs := validateStorageOS(o.VolumeName, o.VolumeNamespace, at)
		if ref := o.SecretRef; ref != nil {
			errs = append(errs, all(required(ref.Name, at.Child("secretRef", "name"), ""), required(ref.Namespace, at.Child("secretRef", "namespace"), ""))...)
		}
		return errs
	})
	source(c, s.CSI, "csi", "csi", validatePersistentCSI)
	return c.all()
}

func validatePersistentGluster(g *corev1.GlusterfsPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := validateGluster(g.EndpointsName, g.Path, at)
	switch ns := g.EndpointsNamespace; {
	case ns == nil:
	case *ns == "":
		errs = append(errs, field.Invalid(at.Child("endpointsNamespace"), *ns, "if the endpointnamespace is set, it must be a valid namespace name"))
	default:
		errs = append(errs, invalid(at.Child("endpointsNamespace"), *ns, apivalidation.ValidateNamespaceName(*ns, false))...)
	}
	return errs
}

func validatePersistentISCSI(s *corev1.ISCSIPersistentVolumeSource, name string, at *field.Path) field.ErrorList {
	errs := required(s.TargetPortal, at.Child("targetPortal"), "")
	if s.InitiatorName != nil && len(name+":"+s.TargetPortal) > maxISCSITarget {
		errs = append(errs, field.Invalid(at.Child("targetportal"), s.TargetPortal,
			"Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
	}
	if s.IQN == "" {
		errs = append(errs, field.Required(at.Child("iqn"), ""))
	} else {
		errs = append(errs, validateISCSIName(s.IQN, false, at.Child("iqn"))...)
	}
	errs = append(errs, validateLun(s.Lun, s.Lun, at)...)
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if s.SecretRef != nil {
		errs = append(errs, required(s.SecretRef.Name, at.Child("secretRef", "name"), "")...)
	}
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(*s.InitiatorName, false, at.Child("initiatorname"))...)
	}
	return errs
}

func validatePersistentAzureFile(a *corev1.AzureFilePersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := all(required(a.SecretName, at.Child("secretName"), ""), required(a.ShareName, at.Child("shareName"), ""))
	if a.SecretNamespace != nil {
		errs = append(errs, required(*a.SecretNamespace, at.Child("secretNamespace"), "")...)
	}
	return errs
}

func validatePersistentCSI(s *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	return all(validateDriverName(s.Driver, at.Child("driver")), required(s.VolumeHandle, at.Child("volumeHandle"), ""),
		validateSecretRef(s.ControllerPublishSecretRef, at.Child("controllerPublishSecretRef")),
		validateSecretRef(s.ControllerExpandSecretRef, at.Child("controllerExpandSecretRef")),
		validateSecretRef(s.NodePublishSecretRef, at.Child("nodePublishSecretRef")),
		validateSecretRef(s.NodeExpandSecretRef, at.Child("nodeExpandSecretRef")))
}

func validateSecretRef(ref *corev1.SecretReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	errs := required(ref.Name, at.Child("name"), "")
	if ref.Name != "" {
		errs = append(errs, invalid(at.Child("name"), ref.Name, validation.IsDNS1123Subdomain(ref.Name))...)
	}
	if ref.Namespace == "" {
		return append(errs, field.Required(at.Child("namespace"), ""))
	}
	return append(errs, invalid(at.Child("namespace"), ref.Namespace, validation.IsDNS1123Label(ref.Namespace))...)
}

// wipesRoot says that a volume's reclaiming would empty the node.
func wipesRoot(spec *corev1.PersistentVolumeSpec) bool {
	return spec.HostPath != nil && path.Clean(spec.HostPath.Path) == "/" && spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle
}
