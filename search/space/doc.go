// Package space defines the search spaces over subnets and their mutations.
//
// A [Space] bounds masks (package infer/subnet) by ranges of inheriting ratios
// and a minimum depth, with the mutation and crossover of Shen et al., "Search for
// Efficient Large Language Models", arXiv 2409.17372. [Levels] are the
// alternative: for each module a [Ladder], a few prepared masks of falling size. A
// [Choice] selects one level for each module.
//
// Random functions take an RNG, so that the same seed gives the same result.
// Errors wrap [subnet.ErrInvalid] and name the layer.
package space
