package image

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
)

// Credentials are what Secrets of the types kubernetes.io/dockerconfigjson and
// kubernetes.io/dockercfg say about registries. The zero value knows none.
type Credentials struct{ logins []login }

// login is for the images whose names begin like place: a host, which may hold
// * for a part of its name, and a path below it.
type login struct {
	place string
	auth  authn.AuthConfig
}

// dockerEntry is one registry of a docker configuration file.
type dockerEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of username:password
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// CredentialsOf reads pull secrets. What can be read of them counts, also when
// the error says that others cannot.
func CredentialsOf(secrets []*corev1.Secret) (Credentials, error) {
	var c Credentials
	var errs []error
	for _, secret := range secrets {
		entries := map[string]dockerEntry{}
		var err error
		switch secret.Type {
		case corev1.SecretTypeDockerConfigJson:
			file := struct {
				Auths map[string]dockerEntry `json:"auths"`
			}{}
			err = json.Unmarshal(secret.Data[corev1.DockerConfigJsonKey], &file)
			entries = file.Auths
		case corev1.SecretTypeDockercfg:
			err = json.Unmarshal(secret.Data[corev1.DockerConfigKey], &entries)
		default:
			err = fmt.Errorf("it is of type %q, not %s", secret.Type, corev1.SecretTypeDockerConfigJson)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("image pull secret %q: %w", secret.Name, err))
			continue
		}
		for place, entry := range entries {
			auth, err := entry.config()
			if err != nil {
				errs = append(errs, fmt.Errorf("image pull secret %q, registry %q: %w", secret.Name, place, err))
				continue
			}
			c.logins = append(c.logins, login{placeOf(place), auth})
		}
	}
	// The most exact one first (https://kubernetes.io/docs/concepts/containers/images/#config-json).
	slices.SortStableFunc(c.logins, func(a, b login) int { return strings.Compare(b.place, a.place) })
	return c, errors.Join(errs...)
}

func (e dockerEntry) config() (authn.AuthConfig, error) {
	out := authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return out, nil
	}
	text, err := base64.StdEncoding.DecodeString(e.Auth)
	if err != nil {
		return out, fmt.Errorf("auth is not base64: %w", err)
	}
	user, password, ok := strings.Cut(string(text), ":")
	if !ok {
		return out, errors.New("auth is not the base64 of NAME:PASSWORD")
	}
	out.Username, out.Password = user, password
	return out, nil
}

// placeOf brings the keys that docker has written over the years to one form.
func placeOf(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, below, _ := strings.Cut(key, "/")
	if below = strings.Trim(below, "/"); below == "v1" || below == "v2" {
		below = ""
	}
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	return strings.TrimSuffix(host+"/"+below, "/")
}

// matches reports whether the login is for an image of a repository.
func (l login) matches(repository name.Repository) bool {
	host, below, _ := strings.Cut(l.place, "/")
	have := repository.RegistryStr()
	// * stands for a part of a host's name and never for a dot.
	if strings.Count(host, ".") != strings.Count(have, ".") {
		return false
	}
	want, got := strings.Split(host, "."), strings.Split(have, ".")
	for i := range want {
		if ok, err := path.Match(want[i], got[i]); err != nil || !ok {
			return false
		}
	}
	image := repository.RepositoryStr()
	return below == "" || image == below || strings.HasPrefix(image, below+"/")
}

// forImage are the logins that are worth a try, the most exact first.
func (c Credentials) forImage(ref name.Reference) (list []authn.Authenticator) {
	for _, l := range c.logins {
		if l.matches(ref.Context()) {
			list = append(list, authn.FromConfig(l.auth))
		}
	}
	return list
}

// id tells credentials apart without saying what they are.
func (c Credentials) id() string {
	if len(c.logins) == 0 {
		return ""
	}
	hash := sha256.New()
	for _, l := range c.logins {
		fmt.Fprintf(hash, "%q %q %q %q %q\n", l.place, l.auth.Username, l.auth.Password, l.auth.IdentityToken, l.auth.RegistryToken)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
