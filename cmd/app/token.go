package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/control/auth"
)

// A join token is "id.secret@sha256:hash": a bootstrap token, and the hash of
// the public key of the cluster's authority, as kubeadm's
// --discovery-token-ca-cert-hash. Whoever has it knows whom to trust.
type joinToken struct {
	auth.BootstrapToken
	caHash string // "sha256:…"
}

func (t joinToken) String() string { return t.BootstrapToken.String() + "@" + t.caHash }

func parseJoinToken(text string) (joinToken, error) {
	token, hash, pinned := strings.Cut(strings.TrimSpace(text), "@")
	parsed, err := auth.ParseBootstrapToken(token)
	if err != nil || !pinned || len(hash) != len("sha256:")+2*sha256.Size {
		return joinToken{}, errors.New("--token is not a token of \"wherry token create\"")
	}
	return joinToken{parsed, hash}, nil
}

// hashOfCA is the hash of the public key of the first certificate.
func hashOfCA(pemData []byte) (string, error) {
	block, _ := pem.Decode(pemData)
	if block == nil {
		return "", errors.New("the cluster's authority is not in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read the cluster's authority: %w", err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func newToken(at *target, streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Let machines join the cluster: create, list, delete",
		Example: "  wherry token create --ttl 1h\n  wherry token list",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreate(at, streams), newTokenList(at, streams), newTokenDelete(at, streams))
	return cmd
}

func newTokenCreate(at *target, streams Streams) *cobra.Command {
	var ttl time.Duration
	var description string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token for \"wherry node\"", Args: cobra.NoArgs,
		Example: "  wherry token create\n  wherry token create --ttl 0 --description \"machines on the roof\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < 0 {
				return errors.New("--ttl is negative: 0 means that the token never expires")
			}
			var expires time.Time
			if ttl > 0 {
				expires = time.Now().Add(ttl)
			}
			token, err := createToken(cmd.Context(), at, expires, description)
			if err != nil {
				return fmt.Errorf("create a token: %w", err)
			}
			fmt.Fprintln(streams.Out, token)
			return nil
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long machines may join with it; 0: for ever")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func createToken(ctx context.Context, at *target, expires time.Time, description string) (joinToken, error) {
	config, err := at.rest()
	if err != nil {
		return joinToken{}, err
	}
	hash, err := hashOfCA(config.CAData)
	if err != nil {
		return joinToken{}, err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return joinToken{}, err
	}
	token, err := auth.NewBootstrapToken(expires, description)
	if err != nil {
		return joinToken{}, err
	}
	_, err = set.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, token.Object(), metav1.CreateOptions{})
	return joinToken{token, hash}, err
}

func newTokenList(at *target, streams Streams) *cobra.Command {
	var format *output
	cmd := &cobra.Command{
		Use: "list", Short: "Show the tokens without their secrets", Args: cobra.NoArgs,
		Example: "  wherry token list\n  wherry token list --output json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			tokens, err := listTokens(cmd.Context(), at)
			if err != nil {
				return fmt.Errorf("list tokens: %w", err)
			}
			if *format == outputJSON {
				return printJSON(streams.Out, listedTokens(tokens, time.Now()))
			}
			var out bytes.Buffer
			table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "ID\tEXPIRES\tDESCRIPTION")
			for _, t := range tokens {
				expires := "never"
				switch {
				case t.Expired(time.Now()):
					expires = "expired"
				case !t.Expires.IsZero():
					expires = t.Expires.Format(time.RFC3339)
				}
				fmt.Fprintf(table, "%s\t%s\t%s\n", t.ID, expires, t.Description)
			}
			_ = table.Flush()
			_, err = streams.Out.Write(out.Bytes())
			return err
		},
	}
	format = bindOutput(cmd.Flags())
	return cmd
}

// listedToken is what "wherry token list --output json" prints of a token.
type listedToken struct {
	ID          string     `json:"id"`
	Expires     *time.Time `json:"expires,omitempty"` // absent: never
	Expired     bool       `json:"expired"`
	Description string     `json:"description,omitempty"`
}

func listedTokens(tokens []auth.BootstrapToken, now time.Time) []listedToken {
	listed := make([]listedToken, 0, len(tokens))
	for _, t := range tokens {
		one := listedToken{ID: t.ID, Expired: t.Expired(now), Description: t.Description}
		if !t.Expires.IsZero() {
			one.Expires = &t.Expires
		}
		listed = append(listed, one)
	}
	return listed
}

func listTokens(ctx context.Context, at *target) ([]auth.BootstrapToken, error) {
	config, err := at.rest()
	if err != nil {
		return nil, err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	list, err := set.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)})
	if err != nil {
		return nil, err
	}
	var tokens []auth.BootstrapToken
	for i := range list.Items {
		if t, err := auth.BootstrapTokenOf(&list.Items[i]); err == nil {
			tokens = append(tokens, t)
		}
	}
	return tokens, nil
}

func newTokenDelete(at *target, streams Streams) *cobra.Command {
	return &cobra.Command{
		Use: "delete TOKEN|ID", Short: "Let nobody join with a token any more", Args: cobra.ExactArgs(1),
		Example: "  wherry token delete abcdef",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, _, _ := strings.Cut(args[0], ".")
			config, err := at.rest()
			if err != nil {
				return err
			}
			set, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			name := auth.BootstrapToken{ID: id}.Object().Name
			if err := set.CoreV1().Secrets(metav1.NamespaceSystem).Delete(cmd.Context(), name, metav1.DeleteOptions{}); err != nil {
				return fmt.Errorf("delete token %s: %w", id, err)
			}
			fmt.Fprintf(streams.Out, "token %s deleted\n", id)
			return nil
		},
	}
}
