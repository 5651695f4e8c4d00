package apiserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// protobuf asks for something in protobuf and returns the body.
func (c *cluster) protobuf(client *http.Client, path string) []byte {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), "GET", c.url+path, nil)
	must(c.t, err)
	request.Header.Set("Accept", runtime.ContentTypeProtobuf)
	answer, err := client.Do(request)
	must(c.t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	must(c.t, err)
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != runtime.ContentTypeProtobuf {
		c.t.Fatalf("%s: %d %s\n%s", path, answer.StatusCode, answer.Header.Get("Content-Type"), data)
	}
	return data
}

// TestListsInProtobuf: a list that is made of stored bytes is the one that the
// encoder makes of the objects, byte for byte.
func TestListsInProtobuf(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	const many = 150 // more than goes to the connection at once
	for i := range many {
		made := &corev1.ConfigMap{Data: map[string]string{"text": strings.Repeat("x", i*7)}}
		made.Name, made.Labels = fmt.Sprintf("c%03d", i), map[string]string{"third": fmt.Sprint(i % 3)}
		body, err := json.Marshal(made)
		must(t, err)
		if got := c.ask(client, "POST", maps, string(body), jsonBody); got.code != http.StatusCreated {
			t.Fatal(got.body)
		}
	}
	big := `{"metadata":{"name":"large"},"data":{"text":"` + strings.Repeat("y", 200_000) + `"}}`
	if got := c.ask(client, "POST", maps, big, jsonBody); got.code != http.StatusCreated {
		t.Fatal(got.body)
	}
	info, _ := runtime.SerializerInfoForMediaType(c.types.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	for path, items := range map[string]int{
		maps:                              many + 1,
		maps + "?labelSelector=third%3D1": many / 3,
		maps + "?limit=10":                10,
		maps + "?labelSelector=none%3D1":  0,
		"/api/v1/namespaces":              0,
		"/api/v1/secrets":                 0,
		"/apis/rbac.authorization.k8s.io/v1/clusterroles":           0,
		"/apis/events.k8s.io/v1/events":                             0,
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions":   0,
		"/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas?limit=3": 0,
	} {
		data := c.protobuf(client, path)
		list, err := runtime.Decode(info.Serializer, data)
		must(t, err)
		if maps, ok := list.(*corev1.ConfigMapList); ok && len(maps.Items) != items {
			t.Errorf("%s: %d items, want %d", path, len(maps.Items), items)
		}
		want, err := runtime.Encode(info.Serializer, list)
		must(t, err)
		if !bytes.Equal(data, want) {
			t.Errorf("%s: %d bytes, the encoder makes %d", path, len(data), len(want))
		}
	}
}
