package otlp

import (
	"strings"
	"testing"
)

// TestOpen: traces are off unless somebody asks for them, and what cannot be
// done is refused by its name.
func TestOpen(t *testing.T) {
	for name, test := range map[string]struct {
		env      map[string]string
		endpoint string
		on       bool
		refused  string
	}{
		"off":              {},
		"by flag":          {endpoint: "http://127.0.0.1:4318", on: true},
		"by the variable":  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, on: true},
		"for traces":       {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/t"}, on: true},
		"disabled":         {env: map[string]string{"OTEL_SDK_DISABLED": "true"}, endpoint: "http://127.0.0.1:4318"},
		"another exporter": {env: map[string]string{"OTEL_TRACES_EXPORTER": "none"}, endpoint: "http://127.0.0.1:4318"},
		"no URL":           {endpoint: "127.0.0.1:4318", refused: "--otlp-endpoint"},
		"another protocol": {env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, endpoint: "http://127.0.0.1:4317", refused: "OTEL_EXPORTER_OTLP_PROTOCOL"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED",
				"OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
				t.Setenv(variable, test.env[variable])
			}
			exporter, err := Open(t.Context(), Config{Endpoint: test.endpoint, Service: "test"})
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || (exporter.Tracer() != nil) != test.on {
				t.Errorf("on is %v, %v", exporter.Tracer() != nil, err)
			}
			if exporter != nil {
				if err := exporter.provider.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
