package search

import "errors"

var (
	// ErrTarget is wrapped when no subnet of the space is small enough.
	ErrTarget = errors.New("search: target out of reach")
	// ErrConfig is wrapped when options contradict each other or lie outside
	// their ranges.
	ErrConfig = errors.New("search: bad options")
	// ErrTimes is wrapped when times per token cannot be measured reliably.
	ErrTimes = errors.New("search: unreliable times")
	// ErrNoCheckpoint is returned by a [Store] that holds none.
	ErrNoCheckpoint = errors.New("search: no checkpoint")
	// ErrDamaged is wrapped when a checkpoint is truncated or altered.
	ErrDamaged = errors.New("search: damaged checkpoint")
	// ErrVersion is wrapped when a checkpoint is of another version of its format.
	ErrVersion = errors.New("search: checkpoint of another version")
	// ErrModel is wrapped when a checkpoint is of another model.
	ErrModel = errors.New("search: checkpoint of another model")
	// ErrOther is wrapped when a checkpoint is of another search over the same
	// model: another strategy, seed, calibration or set of options.
	ErrOther = errors.New("search: checkpoint of another search")
	// ErrStopped is returned by [Job.Run] when [Job.Stop] ended it.
	ErrStopped = errors.New("search: stopped")
)
