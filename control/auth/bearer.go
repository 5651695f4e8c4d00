package auth

import (
	"errors"
	"net/http"
	"strings"
)

// ServerAudience is what tokens for this API server are meant for, and what
// they are issued by: the name of its Service.
const ServerAudience = "https://kubernetes.default.svc.cluster.local"

func isServerAudience(audience string) bool { return audience == ServerAudience }

// errBadToken says no more than that: what is wrong with a token is nobody's
// business who has a wrong one.
var errBadToken = errors.New("invalid bearer token")

// Bearer authenticates by the token of the Authorization header. The first of
// the authenticators that knows the token decides.
func Bearer(all ...TokenAuthenticator) Authenticator { return bearer(all) }

type bearer []TokenAuthenticator

// Authenticate implements Authenticator.
func (b bearer) Authenticate(r *http.Request) (User, bool, error) {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return User{}, false, nil
	}
	var failed error
	for _, each := range b {
		u, _, ok, err := each.AuthenticateToken(r.Context(), token, nil)
		if ok && err == nil {
			return u, true, nil
		}
		failed = errors.Join(failed, err)
	}
	return User{}, false, errors.Join(errBadToken, failed)
}
