// Package subnet describes models and their subnets: the shape of a
// decoder-only transformer, the units that masks keep of it, and the cost of
// that choice.
//
// A unit is an MLP channel, a query head, a KV group (one KV head with its
// query heads), a channel inside a head, a whole attention or MLP block, or a
// layer. A [Set] is an immutable subset of the units of one kind, a [Layer]
// holds the sets of one layer, and [Masks] those of a whole model, bound to its
// [Geometry]. All are values: one derived from another shares what is
// unchanged, and [Diff] lists the difference.
//
// [Masks.Cut] returns the shape of the file of a subnet: the units that it
// removes and those that it can only fill with zeros. [Masks.Size] returns the
// parameters and bytes of a subnet, [Masks.FLOPs] its operations.
//
// A [Family] holds the facts of one architecture, a [Type] those of one of
// ggml's storage types. There is one table of each; the packages that read,
// run, cut and convert models use them.
//
// Errors wrap [ErrInvalid] for masks that do not fit their model (they name
// layer and unit) and [ErrSyntax] for text that cannot be read. The package
// depends on the standard library alone.
package subnet
