package oidc

import (
	"bytes"
	"crypto"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/control/auth"
)

// TestTokens: who somebody is by the settings, and which tokens are refused.
func TestTokens(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	at := p.URL
	past := time.Now().Add(-time.Hour).Unix()
	groups := func(s *Settings) { s.GroupsClaim, s.GroupsPrefix = "roles", "oidc:" }
	email := func(s *Settings) { s.UsernameClaim = "email" }
	for _, test := range []struct {
		name   string
		say    func(*Settings)
		claims object
		want   auth.User
		wrong  string
	}{
		{name: "the default prefix", claims: nil, want: auth.User{Name: at + "#jane"}},
		{name: "no prefix", say: func(s *Settings) { s.UsernamePrefix = "-" }, want: auth.User{Name: "jane"}},
		{name: "a prefix", say: func(s *Settings) { s.UsernamePrefix = "oidc:" }, want: auth.User{Name: "oidc:jane"}},
		{name: "another claim", say: func(s *Settings) { s.UsernameClaim = "nick" }, claims: object{"nick": "jj"}, want: auth.User{Name: at + "#jj"}},
		{name: "no such claim", say: func(s *Settings) { s.UsernameClaim = "nick" }, wrong: `"nick"`},
		{name: "an address has no prefix", say: email, claims: object{"email": "j@x.example"}, want: auth.User{Name: "j@x.example"}},
		{name: "a verified address", say: email, claims: object{"email": "j@x.example", "email_verified": true}, want: auth.User{Name: "j@x.example"}},
		{name: "an address that is not verified", say: email, claims: object{"email": "j@x.example", "email_verified": false}, wrong: "not verified"},
		{name: "groups", say: groups, claims: object{"roles": []string{"a", "b"}}, want: auth.User{Name: at + "#jane", Groups: []string{"oidc:a", "oidc:b"}}},
		{name: "one group", say: groups, claims: object{"roles": "a"}, want: auth.User{Name: at + "#jane", Groups: []string{"oidc:a"}}},
		{name: "no groups", say: groups, want: auth.User{Name: at + "#jane"}},
		{name: "required", say: func(s *Settings) { s.RequiredClaims = []string{"team=a=b"} }, claims: object{"team": "a=b"}, want: auth.User{Name: at + "#jane"}},
		{name: "required and another", say: func(s *Settings) { s.RequiredClaims = []string{"team=a"} }, claims: object{"team": "b"}, wrong: "team"},
		{name: "required and missing", say: func(s *Settings) { s.RequiredClaims = []string{"team=a"} }, wrong: "team"},
		{name: "one audience of several", claims: object{"aud": []string{"x", "wherry"}}, want: auth.User{Name: at + "#jane"}},
		{name: "another's audience", claims: object{"aud": "x"}, wrong: "audience"},
		{name: "expired", claims: object{"exp": past}, wrong: "expired"},
		{name: "not signed so", say: func(s *Settings) { s.SigningAlgs = []string{"ES256", "ES384"} }, wrong: "signed with unsupported algorithm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := Settings{IssuerURL: p.URL, ClientID: "wherry", CAFile: p.caFile}
			if test.say != nil {
				test.say(&s)
			}
			i := ready(t, run(t, Config{Settings: s}))
			u, _, ok, err := i.AuthenticateToken(t.Context(), p.token("one", p.key("one"), test.claims), nil)
			if test.wrong != "" {
				if ok || err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("got %+v, %v, %v, want %q", u, ok, err, test.wrong)
				}
				return
			}
			if err != nil || !ok || !reflect.DeepEqual(u, test.want) {
				t.Errorf("got %+v, %v, %v\nwant %+v", u, ok, err, test.want)
			}
		})
	}
}

// TestWhoseTokens: tokens of others are not known, those that somebody else
// has signed are bad, and reviews for another audience are not ours.
func TestWhoseTokens(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	i := ready(t, run(t, Config{Settings: Settings{IssuerURL: p.URL, ClientID: "wherry", CAFile: p.caFile}}))
	key := p.key("one")
	for name, test := range map[string]struct {
		token     string
		audiences []string
		ok, bad   bool
	}{
		"good":                     {p.token("one", key, nil), nil, true, false},
		"reviewed for this server": {p.token("one", key, nil), []string{"x", auth.ServerAudience}, true, false},
		"reviewed for another":     {p.token("one", key, nil), []string{"x"}, false, false},
		"of another issuer":        {p.token("one", key, object{"iss": "https://else.example"}), nil, false, false},
		"no token":                 {"a.b.c", nil, false, false},
		"empty":                    {"", nil, false, false},
		"another's key":            {p.token("one", newRSA(t), nil), nil, false, true},
		"an unknown key":           {p.token("two", newRSA(t), nil), nil, false, true},
		"of others' claims":        {swapped(p.token("one", key, nil), p.token("one", key, object{"sub": "root"})), nil, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, audiences, ok, err := i.AuthenticateToken(t.Context(), test.token, test.audiences)
			if ok != test.ok || (err != nil) != test.bad {
				t.Errorf("got %v, %v", ok, err)
			}
			if ok && len(test.audiences) > 0 && !reflect.DeepEqual(audiences, []string{auth.ServerAudience}) {
				t.Errorf("audiences %q", audiences)
			}
		})
	}
}

// swapped is a token with another one's signature.
func swapped(token, other string) string {
	return token[:strings.LastIndexByte(token, '.')] + other[strings.LastIndexByte(other, '.'):]
}

// TestRotation: a new key of the issuer, of another kind even, is found when
// the first token that it has signed comes.
func TestRotation(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	i := ready(t, run(t, Config{Settings: Settings{IssuerURL: p.URL, ClientID: "wherry", CAFile: p.caFile, SigningAlgs: []string{"RS256", "ES256"}}}))
	good := func(id string, key crypto.Signer) {
		t.Helper()
		// Not at once: who comes while the keys are being read gets what is read.
		eventually(t, "the token of key "+id, func() bool {
			_, _, ok, err := i.AuthenticateToken(t.Context(), p.token(id, key, nil), nil)
			return ok && err == nil
		})
	}
	good("one", p.key("one"))
	for n, key := range []crypto.Signer{newRSA(t), newECDSA(t)} {
		id := fmt.Sprint("new", n)
		p.rotate(id, key)
		good(id, key)
	}
}

// TestIssuerThatIsDown: its tokens are refused until it is there, and others
// do not notice.
func TestIssuerThatIsDown(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.setDown(true)
	i := run(t, Config{Settings: Settings{IssuerURL: p.URL, ClientID: "wherry", CAFile: p.caFile}})
	<-p.lost
	token := p.token("one", p.key("one"), nil)
	if _, _, ok, err := i.AuthenticateToken(t.Context(), token, nil); ok || err == nil {
		t.Errorf("the token of an issuer that nobody has reached: %v, %v", ok, err)
	}
	if err := i.Health(); err == nil {
		t.Error("an issuer that is down is well")
	}
	p.setDown(false)
	ready(t, i)
	if _, _, ok, err := i.AuthenticateToken(t.Context(), token, nil); !ok || err != nil {
		t.Errorf("the issuer is there again: %v, %v", ok, err)
	}
	// Keys that are known stay good when it goes.
	p.setDown(true)
	if _, _, ok, err := i.AuthenticateToken(t.Context(), token, nil); !ok || err != nil {
		t.Errorf("the issuer has gone again: %v, %v", ok, err)
	}
}

const fileOf = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: %[1]s
    audiences: [wherry, other]
    audienceMatchPolicy: MatchAny
    certificateAuthority: |
      %[2]s
  claimValidationRules:
  - expression: claims.exp - claims.iat <= 7200
    message: lives too long
  claimMappings:
    username: {expression: "claims.sub + '@' + claims.org"}
    groups: {expression: "[%[3]s + claims.group]"}
    uid: {claim: id}
    extra:
    - {key: org.example/team, valueExpression: claims.team}
  userValidationRules:
  - expression: "!user.username.startsWith('system:')"
    message: no system users
`

func (p *provider) file(prefix string) string {
	return fmt.Sprintf(fileOf, p.URL, strings.ReplaceAll(strings.TrimSpace(p.bundle()), "\n", "\n      "), "'"+prefix+"'")
}

// logged is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) says(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), what)
}

// TestFile: expressions of an AuthenticationConfiguration, and a file that
// changes, for the worse and for the better.
func TestFile(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	file := filepath.Join(t.TempDir(), "authentication.yaml")
	p.write(file, p.file("a:"))
	log := &logged{}
	i := ready(t, run(t, Config{File: file, LookEvery: 5 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))}))
	now := time.Now().Unix()
	claims := func(sub string, lives int64) object {
		return object{"sub": sub, "org": "x", "id": "7", "team": []string{"t"}, "group": "g", "iat": now, "exp": now + lives, "aud": "other"}
	}
	good := p.token("one", p.key("one"), claims("jane", 3600))
	user := func() auth.User {
		t.Helper()
		u, _, ok, err := i.AuthenticateToken(t.Context(), good, nil)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return u
	}
	want := auth.User{Name: "jane@x", UID: "7", Groups: []string{"a:g"}, Extra: map[string][]string{"org.example/team": {"t"}}}
	if got := user(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for sub, wrong := range map[string]string{"jane": "lives too long", "system:node": "no system users"} {
		lives := int64(3600)
		if sub == "jane" {
			lives = 9000
		}
		if _, _, ok, err := i.AuthenticateToken(t.Context(), p.token("one", p.key("one"), claims(sub, lives)), nil); ok || err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, %v, want %q", sub, ok, err, wrong)
		}
	}
	if !i.Anonymous("/livez") {
		t.Error("who comes without credentials is refused, and nobody said so")
	}
	p.write(file, strings.Replace(p.file("b:"), "claims.team", "claims.", 1))
	eventually(t, "a warning", func() bool {
		return log.says("is not in force") && log.says("jwt[0].claimMappings.extra[0].valueExpression")
	})
	if got := user(); !reflect.DeepEqual(got, want) {
		t.Errorf("after a change for the worse: %+v", got)
	}
	p.write(file, p.file("c:")+"anonymous:\n  enabled: true\n  conditions:\n  - path: /livez\n")
	eventually(t, "the change", func() bool { return reflect.DeepEqual(user().Groups, []string{"c:g"}) })
	if !i.Anonymous("/livez") || i.Anonymous("/api") {
		t.Error("who comes without credentials is to be let in to /livez only")
	}
}

// TestConfiguration: what is wrong is named by its flag or field.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t)
	good := Settings{IssuerURL: "https://id.example", ClientID: "wherry"}
	change := func(f func(*Settings)) Config { s := good; f(&s); return Config{Settings: s} }
	text := func(name, text string) Config {
		file := filepath.Join(dir, name)
		p.write(file, text)
		return Config{File: file}
	}
	for name, test := range map[string]struct {
		cfg  Config
		want string // "" for none
	}{
		"an issuer":          {Config{Settings: good}, ""},
		"no client":          {change(func(s *Settings) { s.ClientID = "" }), "--oidc-issuer-url and --oidc-client-id must be specified together"},
		"a claim only":       {Config{Settings: Settings{UsernameClaim: "x"}}, "--oidc-issuer-url and --oidc-client-id must be specified together"},
		"not https":          {change(func(s *Settings) { s.IssuerURL = "http://id.example" }), "jwt[0].issuer.url: Invalid value: \"http://id.example\": URL scheme must be https"},
		"the cluster's own":  {Config{Settings: Settings{IssuerURL: auth.ServerAudience, ClientID: "x"}, Reserved: []string{auth.ServerAudience}}, "must not overlap with disallowed issuers"},
		"an algorithm":       {change(func(s *Settings) { s.SigningAlgs = []string{"HS256"} }), "--oidc-signing-algs: \"HS256\" is not one of ES256"},
		"a requirement":      {change(func(s *Settings) { s.RequiredClaims = []string{"team"} }), "--oidc-required-claim: \"team\": want key=value"},
		"no bundle":          {change(func(s *Settings) { s.CAFile = filepath.Join(dir, "none") }), "--oidc-ca-file: open"},
		"a bundle of rags":   {change(func(s *Settings) { s.CAFile = text("rags", "rags").File }), "jwt[0].issuer.certificateAuthority"},
		"both":               {Config{Settings: good, File: "x"}, "--authentication-config and the --oidc flags are mutually exclusive"},
		"no file":            {Config{File: filepath.Join(dir, "none")}, "--authentication-config: open"},
		"an unknown field":   {text("field", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwts: []\n"), "unknown field \"jwts\""},
		"another kind":       {text("kind", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"), "expected AuthenticationConfiguration"},
		"an old version":     {text("beta", strings.Replace(p.file("x"), "k8s.io/v1", "k8s.io/v1beta1", 1)), ""},
		"no name":            {text("name", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{issuer: {url: https://id.example, audiences: [a]}}]\n"), "jwt[0].claimMappings.username: Required value"},
		"a prefix forgotten": {text("prefix", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{issuer: {url: https://id.example, audiences: [a]}, claimMappings: {username: {claim: sub}}}]\n"), "jwt[0].claimMappings.username.prefix: Required value"},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := New(test.cfg)
			if test.want == "" {
				if err != nil || i == nil {
					t.Errorf("got %v, %v", i, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	if i, err := New(Config{}); i != nil || err != nil {
		t.Errorf("nothing is configured: %v, %v", i, err)
	}
}
