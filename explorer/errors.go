package explorer

import "github.com/lathe-llm/lathe/explorer/internal/fault"

// Errors that callers tell apart with errors.Is.
var (
	// ErrReadOnly: another process holds the workspace, or it was opened read-only, and the command would change it.
	ErrReadOnly = fault.ErrReadOnly
	// ErrStale: the command named a version of the draft that is no longer the newest, because another edit came first.
	// Nothing was changed.
	ErrStale = fault.ErrStale
	// ErrNotFound: there is no subnet, job, chat or benchmark of that id.
	ErrNotFound = fault.ErrNotFound
	// ErrForbidden: the actor's role does not allow the command.
	ErrForbidden = fault.ErrForbidden
	// ErrInvalid: the command's values are not valid for this model (a layer it does not have, a ratio outside (0, 1]).
	ErrInvalid = fault.ErrInvalid
	// ErrNoStatistics: the command needs the importance of units, and the statistics have not been gathered yet.
	ErrNoStatistics = fault.ErrNoStatistics
	// ErrBusy: too many jobs, answers or entries of a kind; try again when there are fewer.
	ErrBusy = fault.ErrBusy
	// ErrText: a text is missing, is not text, or has too few tokens. The error names it.
	ErrText = fault.ErrText
	// ErrUnsupported: this build, machine or model cannot do it.
	ErrUnsupported = fault.ErrUnsupported
	// ErrClosed: the exploration was closed.
	ErrClosed = fault.ErrClosed
	// ErrDamaged: a file of the workspace does not read back as it was written. The error names the file and where.
	ErrDamaged = fault.ErrDamaged
	// ErrExists: the file to write exists, and the command does not replace it.
	ErrExists = fault.ErrExists
)
