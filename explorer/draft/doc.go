// Package draft changes masks by hand. A [Mutation] is one change as a value, [Apply] computes the masks that mutations
// lead to, and [Describe] writes a change in one line. Everything here is a pure function: package explorer keeps the
// draft with its undo steps.
//
// Errors wrap explorer.ErrInvalid, or explorer.ErrNoStatistics where a mutation needs the importance of units.
package draft
