// Command guestclient talks to the API server from inside of a pod, as every
// in-cluster client does: by the Service's variables, with the token of its
// service account, and trusting the CA that lies beside it and nobody else
// (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/).
// It prints the name of its own pod's node.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"wherry.dev/wherry/runtime/guest/guesthttp"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	node, err := ownNode()
	if err != nil {
		fmt.Fprintln(os.Stderr, "guestclient:", err)
		os.Exit(1)
	}
	fmt.Println("my node is", node)
}

func ownNode() (string, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return "", err
	}
	namespace, err := os.ReadFile(account + "namespace")
	if err != nil {
		return "", err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return "", err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(ca) {
		return "", errors.New("ca.crt holds no certificate")
	}
	transport := guesthttp.Transport()
	transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	request, err := http.NewRequest(http.MethodGet, "https://"+host+"/api/v1/namespaces/"+string(namespace)+"/pods/"+os.Getenv("HOSTNAME"), nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return "", fmt.Errorf("%s: %s", response.Status, text)
	}
	var pod struct {
		Spec struct{ NodeName string }
	}
	if err := json.NewDecoder(response.Body).Decode(&pod); err != nil {
		return "", err
	}
	return pod.Spec.NodeName, nil
}
