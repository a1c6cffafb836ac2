// Package mask is the vocabulary of subnets: which units of a decoder-only
// transformer are kept, what that costs, and how such choices are varied.
//
// A unit is what a mask keeps or drops: an MLP channel, a query head, a KV
// group (one KV head with its query heads), a channel inside a head, a whole
// attention or MLP block, a layer. A [Set] is an immutable subset of units of
// one kind, a [Layer] the sets of one layer, and [Masks] those of a whole
// model, bound to its [Geometry]. All are values: deriving one from another
// shares what did not change, [Diff] lists the difference.
//
// [Masks.Cut] says which shape a file of a subnet has (what can be removed for
// real and what can only be filled with zeros), and [Masks.Size] what it
// costs in parameters, bytes and operations. [Space] bounds what a search may
// choose, and holds the mutation and crossover of Shen et al., "Search for
// Efficient Large Language Models", arXiv 2409.17372.
//
// Errors wrap [ErrInvalid] for masks that do not fit their model (they name
// layer and unit) and [ErrSyntax] for text that cannot be read. The package
// depends on the standard library alone.
package subnet
