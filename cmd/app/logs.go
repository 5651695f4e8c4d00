package app

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/console"
)

// logFlags say whose logs and how much of them.
type logFlags struct {
	namespace, selector, container string
	follow, all                    bool
	tail                           int64
	since                          time.Duration
}

func newLogs(at *target, streams Streams) *cobra.Command {
	var flags logFlags
	cmd := &cobra.Command{
		Use:   "logs [APP]",
		Short: "Print the logs of all pods of an app, each line with its pod",
		Long: "Print the logs of all pods of an app. APP is the name of a Deployment, StatefulSet, DaemonSet, Job or Pod, or the\n" +
			"value of the label \"app\". With --follow pods that come later are followed too; without it the lines of all\n" +
			"pods are put in the order of their times.",
		Example: "  wherry logs hello\n  wherry logs -f --all\n  wherry logs -l tier=web --since 5m",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			client, _, err := at.clientset()
			if err != nil {
				return err
			}
			chosen, err := flags.pods(ctx, client, args)
			if err != nil {
				return err
			}
			reader := newLogReader(client, console.New(streams.Out), flags)
			if flags.follow {
				err = reader.follow(ctx, chosen)
			} else {
				err = reader.print(ctx, chosen)
			}
			if ctx.Err() != nil {
				return nil // the user has seen enough
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&flags.namespace, "namespace", "n", metav1.NamespaceDefault, "namespace of the app")
	f.StringVarP(&flags.selector, "selector", "l", "", "labels of the pods, instead of APP")
	f.BoolVarP(&flags.all, "all", "a", false, "all pods of the namespace, instead of APP")
	f.StringVarP(&flags.container, "container", "c", "", "only the containers of this name")
	f.BoolVarP(&flags.follow, "follow", "f", false, "go on with what is written from now on")
	f.Int64Var(&flags.tail, "tail", -1, "how many lines of each container to begin with; -1 for all")
	f.DurationVar(&flags.since, "since", 0, "only lines of the last so long, for example 5m")
	return cmd
}

// pods finds out which pods are meant.
func (f *logFlags) pods(ctx context.Context, client kubernetes.Interface, args []string) (metav1.ListOptions, error) {
	var none metav1.ListOptions
	given := 0
	for _, one := range []bool{len(args) > 0, f.selector != "", f.all} {
		if one {
			given++
		}
	}
	if given != 1 {
		return none, errors.New("say whose logs: an APP, --selector or --all, one of them")
	}
	if len(args) == 0 {
		if _, err := labels.Parse(f.selector); err != nil {
			return none, fmt.Errorf("--selector: %w", err)
		}
		return metav1.ListOptions{LabelSelector: f.selector}, nil
	}
	name := args[0]
	if _, after, ok := strings.Cut(name, "/"); ok {
		name = after // deployment/hello as kubectl takes it
	}
	selector, err := workloadSelector(ctx, client, f.namespace, name)
	if err != nil {
		return none, err
	}
	if selector != nil {
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return none, fmt.Errorf("selector of %s: %w", name, err)
		}
		return metav1.ListOptions{LabelSelector: parsed.String()}, nil
	}
	if _, err := client.CoreV1().Pods(f.namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
		return metav1.ListOptions{FieldSelector: "metadata.name=" + name}, nil
	} else if !apierrors.IsNotFound(err) {
		return none, err
	}
	byLabel := metav1.ListOptions{LabelSelector: labels.Set{"app": name}.String()}
	list, err := client.CoreV1().Pods(f.namespace).List(ctx, byLabel)
	if err == nil && len(list.Items) == 0 && !f.follow {
		err = fmt.Errorf("namespace %s has no workload or pod named %q and no pod with the label app=%s", f.namespace, name, name)
	}
	return byLabel, err
}

// workloadSelector returns the pods' selector of the workload of a name, nil
// when there is none.
func workloadSelector(ctx context.Context, client kubernetes.Interface, namespace, name string) (*metav1.LabelSelector, error) {
	apps := client.AppsV1()
	for _, get := range []func() (*metav1.LabelSelector, error){
		func() (*metav1.LabelSelector, error) {
			d, err := apps.Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
			return d.Spec.Selector, err
		},
		func() (*metav1.LabelSelector, error) {
			s, err := apps.StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
			return s.Spec.Selector, err
		},
		func() (*metav1.LabelSelector, error) {
			d, err := apps.DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
			return d.Spec.Selector, err
		},
		func() (*metav1.LabelSelector, error) {
			j, err := client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
			return j.Spec.Selector, err
		},
	} {
		selector, err := get()
		if err == nil {
			return selector, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	return nil, nil
}

// containers are the containers of a pod whose logs are wanted.
func (f *logFlags) containers(pod *corev1.Pod) []string {
	var names []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if f.container == "" || f.container == c.Name {
			names = append(names, c.Name)
		}
	}
	return names
}
