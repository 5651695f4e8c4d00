package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// What follows is offered to a shell: words of the cluster that the command
// would talk to, each with what it is behind a tab.

func (t *target) namespaces(ctx context.Context, _ *cobra.Command) ([]string, error) {
	client, _, err := t.clientset()
	if err != nil {
		return nil, err
	}
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	return names, nil
}

// contexts are those of the user's kubeconfig, or of the one that is named.
func (t *target) contexts(context.Context, *cobra.Command) ([]string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = t.kubeconfig
	config, err := rules.Load()
	if err != nil {
		return nil, err
	}
	var names []string
	for name, c := range config.Contexts {
		names = append(names, name+"\t"+c.Cluster)
	}
	return names, nil
}

// appNames are the names that "wherry logs" takes in the namespace of its
// flag: workloads, and pods that belong to none.
func (t *target) appNames(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	client, _, err := t.clientset()
	if err != nil {
		return nil, err
	}
	namespace, all := namespaceOf(cmd.Flags()), metav1.ListOptions{}
	var names []string
	add := func(kind string, o metav1.Object) {
		if metav1.GetControllerOf(o) == nil {
			names = append(names, o.GetName()+"\t"+kind)
		}
	}
	deployments, first := client.AppsV1().Deployments(namespace).List(ctx, all)
	for i := range deployments.Items {
		add("Deployment", &deployments.Items[i])
	}
	sets, second := client.AppsV1().StatefulSets(namespace).List(ctx, all)
	for i := range sets.Items {
		add("StatefulSet", &sets.Items[i])
	}
	daemons, third := client.AppsV1().DaemonSets(namespace).List(ctx, all)
	for i := range daemons.Items {
		add("DaemonSet", &daemons.Items[i])
	}
	jobs, fourth := client.BatchV1().Jobs(namespace).List(ctx, all)
	for i := range jobs.Items {
		add("Job", &jobs.Items[i])
	}
	pods, fifth := client.CoreV1().Pods(namespace).List(ctx, all)
	for i := range pods.Items {
		add("Pod", &pods.Items[i])
	}
	return names, errors.Join(first, second, third, fourth, fifth)
}

// containerNames are those of all pods of the namespace.
func (t *target) containerNames(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	client, _, err := t.clientset()
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(namespaceOf(cmd.Flags())).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range pods.Items {
		names = append(names, (&logFlags{}).containers(&pods.Items[i])...)
	}
	return names, nil
}

func namespaceOf(flags *pflag.FlagSet) string {
	namespace, err := flags.GetString("namespace")
	if err != nil || namespace == "" {
		return metav1.NamespaceDefault
	}
	return namespace
}

// tokenIDs are the join tokens, with what they are for.
func (t *target) tokenIDs(ctx context.Context, _ *cobra.Command) ([]string, error) {
	tokens, err := listTokens(ctx, t)
	var ids []string
	for _, token := range tokens {
		ids = append(ids, token.ID+"\t"+token.Description)
	}
	return ids, err
}

// imageNames are what the cluster's registry holds, as NAME:TAG.
func (t *target) imageNames(ctx context.Context, _ *cobra.Command) ([]string, error) {
	config, err := t.rest()
	if err != nil {
		return nil, err
	}
	registry, err := registryTarget(config)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: registry.Transport}
	ask := func(path string, answer any) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+registry.Registry+"/v2/"+path, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("registry: %s: %s", path, resp.Status)
		}
		return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(answer)
	}
	var catalog struct{ Repositories []string }
	if err := ask("_catalog", &catalog); err != nil {
		return nil, err
	}
	var names []string
	for _, repository := range catalog.Repositories {
		var tags struct{ Tags []string }
		if err := ask(repository+"/tags/list", &tags); err != nil {
			return names, err
		}
		for _, tag := range tags.Tags {
			names = append(names, repository+":"+tag)
		}
	}
	return names, nil
}
