package scheduler

import "time"

// Settings are what a configuration file says.
type Settings struct {
	Profiles []*Profile
	// The back-off of a pod between two attempts begins at the first and is
	// doubled up to the second.
	InitialBackoff, MaxBackoff time.Duration
}

// DefaultSettings are those of a scheduler without configuration.
func DefaultSettings() *Settings {
	return &Settings{Profiles: []*Profile{DefaultProfile()}, InitialBackoff: firstBackoff, MaxBackoff: lastBackoff}
}
