package imagestore

import (
	"errors"
	"fmt"
)

// Sentinels, for errors.Is. Errors that reach a user of the command line
// carry docker's wording and wrap one of these.
var (
	// ErrNotFound says that no image, layer or blob answers to a name.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous says that an ID prefix fits several images.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrConflict says that an image cannot be removed as it is in use.
	ErrConflict = errors.New("conflict")
	// ErrInvalid says that a name, manifest, config or index is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt says that content is not what it should be: a wrong digest
	// or length, a damaged stream or file.
	ErrCorrupt = errors.New("corrupt")
	// ErrLimit says that content exceeds what is allowed: an expansion bomb,
	// or more than the disk holds.
	ErrLimit = errors.New("limit exceeded")
	// ErrBusy says that another process holds the store.
	ErrBusy = errors.New("the image store is in use by another unio process")
)

// messageError is an error with a fixed text for the user that still answers
// to errors.Is.
type messageError struct {
	msg  string
	kind error
}

func (e *messageError) Error() string { return e.msg }
func (e *messageError) Unwrap() error { return e.kind }

// message builds an error that reads exactly as given and wraps kind.
func message(kind error, format string, args ...any) error {
	return &messageError{msg: fmt.Sprintf(format, args...), kind: kind}
}
