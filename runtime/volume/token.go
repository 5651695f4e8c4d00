package volume

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	defaultTokenSeconds = 3600
	// A token is renewed when four fifths of its life are over, or a day
	// (https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken).
	tokenRest  = 0.2
	longestUse = 24 * time.Hour
	tokenRetry = 10 * time.Second
)

// token is what was issued for one serviceAccountToken source of the pod.
type token struct {
	value   string
	renewAt time.Time
	expires time.Time
}

// token returns the token of a source, issued for this pod, and a fresh one
// when it is time. An old one serves on while no new one can be had.
func (b builder) token(ctx context.Context, volume string, src *corev1.ServiceAccountTokenProjection) (string, error) {
	key := volume + "/" + src.Path
	now := time.Now()
	held, ok := b.tokens[key]
	if ok && now.Before(held.renewAt) {
		return held.value, nil
	}
	seconds := int64(defaultTokenSeconds)
	if src.ExpirationSeconds != nil {
		seconds = *src.ExpirationSeconds
	}
	account := b.pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	spec := authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, BoundObjectRef: &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: b.pod.Name, UID: b.pod.UID}}
	if src.Audience != "" {
		spec.Audiences = []string{src.Audience}
	}
	status, err := b.src.Token(ctx, b.pod.Namespace, account, spec)
	if err != nil {
		if ok && now.Before(held.expires) {
			held.renewAt = now.Add(tokenRetry)
			b.tokens[key] = held
			return held.value, nil
		}
		return "", fmt.Errorf("failed to fetch token: %w", err)
	}
	expires := status.ExpirationTimestamp.Time
	life := expires.Sub(now)
	renewAt := now.Add(min(life-time.Duration(float64(life)*tokenRest), longestUse))
	b.tokens[key] = token{value: status.Token, renewAt: renewAt, expires: expires}
	return status.Token, nil
}

// RenewAt is when Sync is to be called again at the latest, because a token
// ends; zero: never.
func (s *Set) RenewAt() (first time.Time) {
	for _, t := range s.tokens {
		if first.IsZero() || t.renewAt.Before(first) {
			first = t.renewAt
		}
	}
	return first
}
