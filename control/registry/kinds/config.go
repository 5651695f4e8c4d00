package kinds

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// maxConfigBytes bounds the data of a ConfigMap or Secret, as in Kubernetes.
const maxConfigBytes = corev1.MaxSecretSize

// ConfigMaps is the kind ConfigMap.
func ConfigMaps() Strategy[*corev1.ConfigMap] {
	return Strategy[*corev1.ConfigMap]{
		Resource:       api.ConfigMaps,
		Validate:       validateConfigMap,
		ValidateUpdate: validateConfigMapUpdate,
		Columns:        columns("Name", "Data", "Age"),
		Row: func(c *corev1.ConfigMap, now time.Time) []any {
			return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), age(c.CreationTimestamp, now)}
		},
	}
}

func validateConfigMap(c *corev1.ConfigMap) (errs field.ErrorList) {
	total := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		errs = append(errs, validateConfigKey(key, field.NewPath("data"))...)
		if _, twice := c.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, "duplicate of key present in binaryData"))
		}
		total += len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		errs = append(errs, validateConfigKey(key, field.NewPath("binaryData"))...)
		total += len(c.BinaryData[key])
	}
	if total > maxConfigBytes {
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxConfigBytes))
	}
	return errs
}

func validateConfigKey(key string, at *field.Path) (errs field.ErrorList) {
	for _, text := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(at.Key(key), key, text))
	}
	return errs
}

func validateConfigMapUpdate(c, old *corev1.ConfigMap) (errs field.ErrorList) {
	if isTrue(old.Immutable) {
		errs = append(errs, stillImmutable(c.Immutable)...)
		if !apiequality.Semantic.DeepEqual(c.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
		}
		if !apiequality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), "field is immutable when `immutable` is set"))
		}
	}
	return append(errs, validateConfigMap(c)...)
}

func isTrue(p *bool) bool { return p != nil && *p }

func stillImmutable(now *bool) field.ErrorList {
	if isTrue(now) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set")}
}

// Secrets is the kind Secret.
func Secrets() Strategy[*corev1.Secret] {
	return Strategy[*corev1.Secret]{
		Resource:       api.Secrets,
		Default:        defaultSecret,
		Validate:       validateSecret,
		ValidateUpdate: validateSecretUpdate,
		Warnings:       secretWarnings,
		Fields: map[string]func(*corev1.Secret) string{
			"type": func(s *corev1.Secret) string { return string(s.Type) },
		},
		Columns: columns("Name", "Type", "Data", "Age"),
		Row: func(s *corev1.Secret, now time.Time) []any {
			return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp, now)}
		},
	}
}

// defaultSecret moves the write-only stringData into data before anybody looks at
// the object, so that its managed fields speak of data.
func defaultSecret(s *corev1.Secret) {
	or(&s.Type, corev1.SecretTypeOpaque)
	mergeStringData(s)
}

// mergeStringData moves the write-only stringData into data.
func mergeStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func validateSecret(s *corev1.Secret) (errs field.ErrorList) {
	at := field.NewPath("data")
	total := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		errs = append(errs, validateConfigKey(key, at)...)
		total += len(s.Data[key])
	}
	if total > maxConfigBytes {
		errs = append(errs, field.TooLong(at, "", maxConfigBytes))
	}
	if s.Type == corev1.SecretTypeServiceAccountToken && s.Annotations[corev1.ServiceAccountNameKey] == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), ""))
	}
	for _, key := range requiredSecretKeys[s.Type] {
		if _, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(at.Key(key), ""))
		}
	}
	if s.Type == corev1.SecretTypeBasicAuth && s.Data[corev1.BasicAuthUsernameKey] == nil && s.Data[corev1.BasicAuthPasswordKey] == nil {
		errs = append(errs, field.Required(at.Key(corev1.BasicAuthUsernameKey), ""), field.Required(at.Key(corev1.BasicAuthPasswordKey), ""))
	}
	if key, ok := jsonSecretKeys[s.Type]; ok {
		errs = append(errs, validateSecretJSON(s.Data, key, at)...)
	}
	return errs
}

// requiredSecretKeys and jsonSecretKeys are what the built-in types promise,
// as documented at corev1.SecretType.
var (
	requiredSecretKeys = map[corev1.SecretType][]string{
		corev1.SecretTypeTLS:     {corev1.TLSCertKey, corev1.TLSPrivateKeyKey},
		corev1.SecretTypeSSHAuth: {corev1.SSHAuthPrivateKey},
	}
	jsonSecretKeys = map[corev1.SecretType]string{
		corev1.SecretTypeDockercfg:        corev1.DockerConfigKey,
		corev1.SecretTypeDockerConfigJson: corev1.DockerConfigJsonKey,
	}
)

func validateSecretUpdate(s, old *corev1.Secret) (errs field.ErrorList) {
	errs = append(errs, apivalidation.ValidateImmutableField(s.Type, old.Type, field.NewPath("type"))...)
	if isTrue(old.Immutable) {
		errs = append(errs, stillImmutable(s.Immutable)...)
		if !apiequality.Semantic.DeepEqual(s.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
		}
	}
	return append(errs, validateSecret(s)...)
}

// ServiceAccounts is the kind ServiceAccount.
func ServiceAccounts() Strategy[*corev1.ServiceAccount] {
	return Strategy[*corev1.ServiceAccount]{
		Resource:   api.ServiceAccounts,
		WarnChange: accountWarnings,
		Columns:    columns("Name", "Age"),
		Row: func(s *corev1.ServiceAccount, now time.Time) []any {
			return []any{s.Name, age(s.CreationTimestamp, now)}
		},
	}
}

func validateSecretJSON(data map[string][]byte, key string, at *field.Path) field.ErrorList {
	value, ok := data[key]
	if !ok {
		return field.ErrorList{field.Required(at.Key(key), "")}
	}
	if err := json.Unmarshal(value, &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(at.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}
