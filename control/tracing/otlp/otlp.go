// Package otlp sends spans to a collector by OTLP over HTTP
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
package otlp

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"wherry.dev/wherry/control/tracing"
)

// flushTime is how long the end of a process waits for its last spans to be
// taken.
const flushTime = 5 * time.Second

// Config says where spans go and who sends them. What it leaves open, and the
// sampler, headers, time-outs and certificates, comes from the standard
// variables (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
type Config struct {
	// Endpoint is the collector's base URL, http://host:4318; empty:
	// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.
	Endpoint string
	// Service, Version and Instance describe the process; OTEL_SERVICE_NAME and
	// OTEL_RESOURCE_ATTRIBUTES are stronger.
	Service, Version, Instance string
}

// Exporter collects spans and sends them in the background.
type Exporter struct{ provider *sdktrace.TracerProvider }

// enabled tells whether somebody has asked for traces.
func (c Config) enabled() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return c.Endpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Open prepares to send spans; nothing is dialled before there are any. It
// returns nil without an error when no endpoint is configured.
func Open(ctx context.Context, cfg Config) (*Exporter, error) {
	if !cfg.enabled() {
		return nil, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := os.Getenv(name); protocol != "" && protocol != "http/protobuf" {
			return nil, fmt.Errorf("%s is %q: traces are sent by http/protobuf only, to port 4318 of most collectors", name, protocol)
		}
	}
	var options []otlptracehttp.Option
	if cfg.Endpoint != "" {
		base, err := url.Parse(cfg.Endpoint)
		if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
			return nil, fmt.Errorf("--otlp-endpoint %q is not a URL such as http://127.0.0.1:4318", cfg.Endpoint)
		}
		options = append(options, otlptracehttp.WithEndpointURL(base.JoinPath("v1/traces").String()))
	}
	sender, err := otlptrace.New(ctx, otlptracehttp.NewClient(options...))
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", cfg.Service),
		attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", cfg.Instance)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process for traces: %w", err)
	}
	return &Exporter{sdktrace.NewTracerProvider(sdktrace.WithBatcher(sender), sdktrace.WithResource(about))}, nil
}

// Tracer makes spans; nil when e is nil, and then there are none.
func (e *Exporter) Tracer() trace.Tracer {
	if e == nil {
		return nil
	}
	return e.provider.Tracer(tracing.Name)
}

// Run sends spans until ctx ends, and then what is left of them. A collector
// that takes none is no failure of the process.
func (e *Exporter) Run(ctx context.Context) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	_ = e.provider.Shutdown(ctx) // otel's error handler has told what could not be sent
	return nil
}
