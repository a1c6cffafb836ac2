// Package space defines what a search over subnets may choose and how it varies
// a choice.
//
// A [Space] bounds masks (package infer/subnet) by ranges of inheriting ratios
// and a least depth, and holds the mutation and crossover of Shen et al., "Search
// for Efficient Large Language Models", arXiv 2409.17372. [Levels] are the
// alternative: a short ladder of prepared masks for each module, of which a
// [Choice] picks one each.
//
// Random functions take the generator to draw from, so that the same seed gives
// the same result. Errors wrap [subnet.ErrInvalid] and name the layer.
package space
