package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// The states of the gRPC health checking protocol
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
var healthStates = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

const (
	grpcServing       = 1
	grpcUnimplemented = 12 // status code
	// maxHealthReply bounds a reply; a real one has two bytes and a frame of five.
	maxHealthReply = 4 << 10
)

// grpc asks the health service of the pod. A request and its reply are so small
// that they are put together here: a frame of gRPC around one field of protobuf.
func (p *prober) grpc(ctx context.Context, action *corev1.GRPCAction) outcome {
	if action.Port < 1 || action.Port > 65535 {
		return outcome{probeUnknown, fmt.Sprintf("invalid port number: %v", action.Port)}
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	state, code, text, err := p.health(ctx, uint16(action.Port), service)
	switch {
	case ctx.Err() != nil:
		return outcome{probeFailure, "timeout: health rpc did not complete within the probe's timeout"}
	case refused(err):
		return outcome{probeFailure, fmt.Sprintf("error: failed to connect service %q: %v", p.address(action.Port), err)}
	case err != nil:
		return outcome{probeFailure, fmt.Sprintf("error: health rpc probe failed: %v", err)}
	case code == grpcUnimplemented:
		return outcome{probeFailure, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + text}
	case code != 0:
		return outcome{probeFailure, fmt.Sprintf("error: health rpc probe failed: code %d: %s", code, text)}
	case state != grpcServing:
		return outcome{probeFailure, fmt.Sprintf("service unhealthy (responded with %q)", healthState(state))}
	}
	return outcome{result: probeSuccess}
}

func (p *prober) address(port int32) string {
	return net.JoinHostPort(p.ip.String(), strconv.Itoa(int(port)))
}

func refused(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

func healthState(n uint64) string {
	if n < uint64(len(healthStates)) {
		return healthStates[n]
	}
	return strconv.FormatUint(n, 10)
}

// health makes one call of grpc.health.v1.Health/Check. code and text are the
// call's status; state is valid when code is 0.
func (p *prober) health(ctx context.Context, port uint16, service string) (state uint64, code int, text string, err error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx, "", port) }}
	defer transport.CloseIdleConnections()
	target := url.URL{Scheme: "http", Host: p.address(int32(port)), Path: "/grpc.health.v1.Health/Check"}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(healthRequest(service)))
	if err != nil {
		return 0, 0, "", err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	request.Header.Set("User-Agent", "kube-probe/1.37")
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHealthReply))
	if err != nil {
		return 0, 0, "", err
	}
	if response.StatusCode != http.StatusOK {
		return 0, 0, "", fmt.Errorf("unexpected HTTP status code %d", response.StatusCode)
	}
	status := response.Trailer
	if response.Header.Get("Grpc-Status") != "" {
		status = response.Header // an answer without a message has no trailers
	}
	if code, err = strconv.Atoi(status.Get("Grpc-Status")); err != nil {
		return 0, 0, "", errors.New("the answer has no grpc-status: is this a gRPC server?")
	}
	if code == 0 {
		state, err = healthReply(body)
	}
	return state, code, status.Get("Grpc-Message"), err
}

// healthRequest is a frame with HealthCheckRequest{service: 1}.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
		message = append(message, service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

// healthReply reads a frame with HealthCheckResponse{status: 1}.
func healthReply(frame []byte) (state uint64, err error) {
	const head = 5
	if len(frame) < head || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-head {
		return 0, errors.New("the health service's answer is no gRPC message")
	}
	for message := frame[head:]; len(message) > 0; {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag&7 != 0 {
			return 0, errors.New("the health service's answer is malformed")
		}
		value, m := binary.Uvarint(message[n:])
		if m <= 0 {
			return 0, errors.New("the health service's answer is malformed")
		}
		if tag>>3 == 1 {
			state = value
		}
		message = message[n+m:]
	}
	return state, nil
}
