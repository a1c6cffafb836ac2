package explorer

import "errors"

// Errors that callers tell apart with errors.Is.
var (
	// ErrReadOnly: the workspace is held by another process, or was opened read-only, and the command would change it.
	ErrReadOnly = errors.New("workspace is read-only")
	// ErrStale: the command named a version of the masks in work that is no longer the newest: somebody else's edit came
	// first. Nothing was changed.
	ErrStale = errors.New("the masks changed since they were read")
	// ErrNotFound: no subnet, job, chat or bench of that id.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: the actor's role does not allow the command.
	ErrForbidden = errors.New("not allowed for this role")
	// ErrInvalid: the command's values make no sense for this model (a layer it does not have, a ratio outside (0, 1]).
	ErrInvalid = errors.New("invalid")
	// ErrNoStatistics: the command needs the importance of units and the statistics have not been gathered yet.
	ErrNoStatistics = errors.New("statistics are not gathered yet")
	// ErrBusy: too much of that kind is under way; try again when some of it is done.
	ErrBusy = errors.New("busy")
	// ErrText: a text is missing, is no text, or has too few tokens. The error names it.
	ErrText = errors.New("text cannot be used")
	// ErrUnsupported: this build, machine or model cannot do it.
	ErrUnsupported = errors.New("not supported")
	// ErrClosed: the exploration was closed.
	ErrClosed = errors.New("exploration is closed")
	// ErrDamaged: a file of the workspace does not read back as it was written. The error names the file and the place.
	ErrDamaged = errors.New("damaged")
)
