// Package audit writes who asked the API for what, one JSON object per line in
// the form of Kubernetes' audit.k8s.io/v1 events
// (https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/).
//
// The policy is one level for everything:
//
//	None      nothing is written
//	Metadata  who, what, when, from where and the outcome (the default)
//	Request   and the object or patch that was sent, for writes
//
// Whatever the level, requests that say nothing about the cluster (health,
// version, the OpenAPI documents, metrics) are left out, and what is sent about
// secrets, config maps and tokens stays at Metadata: an audit log is read by
// more people than those who may read secrets. Answers are never written.
package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Level is how much is written about a request.
type Level string

// The levels.
const (
	LevelNone     Level = "None"
	LevelMetadata Level = "Metadata"
	LevelRequest  Level = "Request"
)

// ParseLevel reads a level; "" is Metadata.
func ParseLevel(text string) (Level, error) {
	switch level := Level(text); level {
	case "":
		return LevelMetadata, nil
	case LevelNone, LevelMetadata, LevelRequest:
		return level, nil
	}
	return "", fmt.Errorf("unknown audit level %q: want None, Metadata or Request", text)
}

// The stages of a request that events tell of.
const (
	StageStarted  = "ResponseStarted"  // of a watch or another stream
	StageComplete = "ResponseComplete" // of everything
)

// Event is one line of the log.
type Event struct {
	metav1.TypeMeta          `json:",inline"`
	Level                    Level             `json:"level"`
	AuditID                  string            `json:"auditID"`
	Stage                    string            `json:"stage"`
	RequestURI               string            `json:"requestURI"`
	Verb                     string            `json:"verb"`
	User                     User              `json:"user"`
	ImpersonatedUser         *User             `json:"impersonatedUser,omitempty"`
	SourceIPs                []string          `json:"sourceIPs,omitempty"`
	UserAgent                string            `json:"userAgent,omitempty"`
	ObjectRef                *ObjectReference  `json:"objectRef,omitempty"`
	ResponseStatus           *metav1.Status    `json:"responseStatus,omitempty"`
	RequestObject            *runtime.Unknown  `json:"requestObject,omitempty"`
	RequestReceivedTimestamp metav1.MicroTime  `json:"requestReceivedTimestamp"`
	StageTimestamp           metav1.MicroTime  `json:"stageTimestamp"`
	Annotations              map[string]string `json:"annotations,omitempty"`
}

// User is who sent a request.
type User struct {
	Username string              `json:"username,omitempty"`
	UID      string              `json:"uid,omitempty"`
	Groups   []string            `json:"groups,omitempty"`
	Extra    map[string][]string `json:"extra,omitempty"`
}

// ObjectReference is what a request was about.
type ObjectReference struct {
	Resource    string `json:"resource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	UID         string `json:"uid,omitempty"`
	APIGroup    string `json:"apiGroup,omitempty"`
	APIVersion  string `json:"apiVersion,omitempty"`
	Subresource string `json:"subresource,omitempty"`
}

// Log writes events to a file. It is safe for concurrent use.
type Log struct {
	level Level
	log   *slog.Logger

	mu      sync.Mutex
	path    string
	file    io.WriteCloser
	written int64
	failing bool
}

const (
	// maxFile is from which size on a new file is begun, and keepFiles how many
	// old ones stay, path.1 being the newest.
	maxFile   = 100 << 20
	keepFiles = 10
)

// Open opens the log at a path, or makes it. "-" is standard output. Whoever
// opened it closes it.
func Open(path string, level Level, log *slog.Logger) (*Log, error) {
	l := &Log{level: level, path: path, log: log}
	if path == "-" {
		l.file = os.Stdout
		return l, nil
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return l, nil
}

func (l *Log) open() error {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	l.file, l.written = file, info.Size()
	return nil
}

// Level is the level of the log's policy.
func (l *Log) Level() Level { return l.level }

// Write adds an event. A log that cannot be written is told of once, and stops
// nobody.
func (l *Log) Write(e Event) {
	e.APIVersion, e.Kind = "audit.k8s.io/v1", "Event"
	line, err := json.Marshal(e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		err = l.rotate(int64(len(line)))
	}
	if err == nil {
		var n int
		n, err = l.file.Write(append(line, '\n'))
		l.written += int64(n)
	}
	if err != nil && !l.failing {
		l.log.Error("the audit log cannot be written", "path", l.path, "error", err)
	}
	l.failing = err != nil
}

// rotate begins a new file when the next line would make this one too large.
func (l *Log) rotate(next int64) error {
	if l.path == "-" || l.written == 0 || l.written+next < maxFile {
		return nil
	}
	for i := keepFiles - 1; i > 0; i-- {
		err := os.Rename(fmt.Sprintf("%s.%d", l.path, i), fmt.Sprintf("%s.%d", l.path, i+1))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return err
	}
	old := l.file
	if err := l.open(); err != nil {
		return err
	}
	return old.Close()
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "-" {
		return nil
	}
	return l.file.Close()
}
