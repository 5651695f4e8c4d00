package image

// The reasons of a PullError, as a container's waiting state shows them.
const (
	ReasonPull        = "ErrImagePull"
	ReasonNeverPull   = "ErrImageNeverPull"
	ReasonInvalidName = "InvalidImageName"
)

// PullError says why an image is not on this node.
type PullError struct {
	Ref string
	// why is one of the Reason constants.
	why string
	// Err has the cause, for people.
	Err error
}

func (e *PullError) Error() string { return e.Err.Error() }

func (e *PullError) Unwrap() error { return e.Err }

// Reason is the word for a container's waiting state.
func (e *PullError) Reason() string { return e.why }
