package auth

import (
	"context"
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

// Tokens asks several authenticators in turn; the first that knows the token
// decides.
type Tokens []TokenAuthenticator

// AuthenticateToken implements TokenAuthenticator.
func (t Tokens) AuthenticateToken(ctx context.Context, token string, audiences []string) (User, []string, bool, error) {
	var failed error
	for _, each := range t {
		u, meant, ok, err := each.AuthenticateToken(ctx, token, audiences)
		if ok && err == nil {
			return u, meant, true, nil
		}
		failed = errors.Join(failed, err)
	}
	return User{}, nil, false, failed
}

// Bearer authenticates by the token of the Authorization header.
func Bearer(tokens TokenAuthenticator) Authenticator { return bearer{tokens} }

type bearer struct{ tokens TokenAuthenticator }

// Authenticate implements Authenticator.
func (b bearer) Authenticate(r *http.Request) (User, bool, error) {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return User{}, false, nil
	}
	u, _, ok, err := b.tokens.AuthenticateToken(r.Context(), token, nil)
	if !ok || err != nil {
		return User{}, false, errors.Join(errBadToken, err)
	}
	return u, true, nil
}
