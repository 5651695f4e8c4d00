package oidc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// Settings are what flags say of one issuer, each named as kube-apiserver's
// flag. The zero value is no issuer.
type Settings struct {
	IssuerURL string // https
	ClientID  string // what tokens must be meant for
	// UsernameClaim is the claim with the user's name; empty: "sub". "email"
	// counts only when email_verified does not deny it.
	UsernameClaim string
	// UsernamePrefix comes before names: empty for "issuer#", or for nothing when
	// the claim is "email"; "-" for nothing.
	UsernamePrefix string
	GroupsClaim    string // a string or a list of strings; empty: no groups
	GroupsPrefix   string
	RequiredClaims []string // "key=value"
	SigningAlgs    []string // empty: RS256
	CAFile         string   // whom to trust as the issuer; empty: whom the machine does
}

// noPrefix is what UsernamePrefix says for no prefix at all.
const noPrefix = "-"

// set tells whether any setting is there.
func (s Settings) set() bool {
	return s.IssuerURL+s.ClientID+s.UsernameClaim+s.UsernamePrefix+s.GroupsClaim+s.GroupsPrefix+s.CAFile != "" ||
		len(s.RequiredClaims)+len(s.SigningAlgs) > 0
}

// configuration is what the settings mean. Errors name the flag.
func (s Settings) configuration() (*apiserver.AuthenticationConfiguration, error) {
	if s.IssuerURL == "" || s.ClientID == "" {
		return nil, errors.New("--oidc-issuer-url and --oidc-client-id must be specified together when any --oidc flag is set")
	}
	for _, alg := range s.SigningAlgs {
		if known := oidc.AllValidSigningAlgorithms(); !slices.Contains(known, alg) {
			return nil, fmt.Errorf("--oidc-signing-algs: %q is not one of %s", alg, strings.Join(known, ", "))
		}
	}
	claim := s.UsernameClaim
	if claim == "" {
		claim = "sub"
	}
	prefix := s.UsernamePrefix
	switch {
	case prefix == noPrefix:
		prefix = ""
	case prefix == "" && claim != "email":
		prefix = s.IssuerURL + "#"
	}
	one := apiserver.JWTAuthenticator{
		Issuer:        apiserver.Issuer{URL: s.IssuerURL, Audiences: []string{s.ClientID}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: claim, Prefix: &prefix}},
	}
	if s.GroupsClaim != "" {
		one.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: s.GroupsClaim, Prefix: &s.GroupsPrefix}
	}
	for _, required := range s.RequiredClaims {
		key, value, ok := strings.Cut(required, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--oidc-required-claim: %q: want key=value", required)
		}
		one.ClaimValidationRules = append(one.ClaimValidationRules, apiserver.ClaimValidationRule{Claim: key, RequiredValue: value})
	}
	if s.CAFile != "" {
		bundle, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		one.Issuer.CertificateAuthority = string(bundle)
	}
	return &apiserver.AuthenticationConfiguration{JWT: []apiserver.JWTAuthenticator{one}}, nil
}
