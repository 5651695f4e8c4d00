package app

import (
	"github.com/spf13/pflag"

	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/auth/oidc"
)

// Issuers are the OpenID Connect issuers whose tokens the cluster takes.
type Issuers struct {
	Settings oidc.Settings
	// File has an AuthenticationConfiguration; empty: none.
	File string
}

// addTo makes flags of the settings, in kube-apiserver's names.
func (i *Issuers) addTo(f *pflag.FlagSet) {
	s := &i.Settings
	f.StringVar(&i.File, "authentication-config", "", "YAML file with an AuthenticationConfiguration: issuers of tokens, and where one may come without; read again when it changes")
	f.StringVar(&s.IssuerURL, "oidc-issuer-url", "", "https URL of an OpenID Connect issuer whose tokens are taken")
	f.StringVar(&s.ClientID, "oidc-client-id", "", "what its tokens must be meant for")
	f.StringVar(&s.UsernameClaim, "oidc-username-claim", "", "claim with the user's name (default \"sub\")")
	f.StringVar(&s.UsernamePrefix, "oidc-username-prefix", "", "what comes before names, - for nothing; default: the issuer's URL and #, nothing if the claim is email")
	f.StringVar(&s.GroupsClaim, "oidc-groups-claim", "", "claim with the user's groups")
	f.StringVar(&s.GroupsPrefix, "oidc-groups-prefix", "", "what comes before groups")
	f.StringArrayVar(&s.RequiredClaims, "oidc-required-claim", nil, "key=value that tokens must have; may be repeated")
	f.StringSliceVar(&s.SigningAlgs, "oidc-signing-algs", nil, "how tokens may be signed (default RS256)")
	f.StringVar(&s.CAFile, "oidc-ca-file", "", "file with the certificates that the issuer is trusted by; default: the machine's")
}

// openIssuers reads the configuration; nil: there are no issuers.
func (c *Cluster) openIssuers() (*oidc.Issuers, error) {
	return oidc.New(oidc.Config{Settings: c.cfg.Issuers.Settings, File: c.cfg.Issuers.File, Reserved: []string{auth.ServerAudience}, Log: c.log("issuers"),
		Dial: c.callouts.DialHost})
}
