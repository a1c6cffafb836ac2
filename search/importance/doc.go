// Package importance says which units of a layer matter: which to keep when only some may stay.
//
// One pass over calibration text leaves a [Block] for each module of each layer: its matrices, and the second moments
// of what enters them. [Rank] orders the units of a block by one [Method]. The order is all that choosing needs, since
// [Ranking.Keep] holds for every count; [Curve] adds, for any order, what dropping the first k units costs after the
// best repair.
//
//	rank, err := importance.Rank(importance.OBS, block, importance.Channels, importance.Options{})
//	kept := rank.Keep(1024)
//
// The methods, with their sources, are listed at [Method]. Layers as a whole are compared by [Cosine], or by the loss of
// going without them, which the caller measures.
//
// All arithmetic is double precision in plain Go. Errors name the block; those that callers branch on are [ErrMethod],
// [ErrNeeds] and the sentinels of package gram.
package importance
