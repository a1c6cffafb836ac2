// Package importance ranks the units of a module: which to keep when only some may stay.
//
// A [Block] is one module of one layer with its matrices and the second moments of their inputs on calibration text.
// [Rank] orders the units of a block by one [Method]; [Ranking.Keep] returns the best units for any count.
//
//	rank, err := importance.Rank(importance.OBS, block, importance.Channels, importance.Options{})
//	kept := rank.Keep(1024)
//
// The methods, with their sources, are listed at [Method]. Whole layers are compared by [Cosine], or by the loss without them,
// which the caller measures.
//
// All arithmetic is double precision by package linalg. Errors name the block; those that callers branch on are [ErrMethod],
// [ErrNeeds] and the sentinels of package linalg.
package importance
