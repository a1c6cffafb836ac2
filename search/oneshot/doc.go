// Package oneshot makes subnets without a search: it chooses the units to keep and shares out the widths of the layers by
// one of several published methods, on equal terms, and re-fits what is left with package reform.
//
// [OneShot] makes a subnet of a given inheriting ratio as a [Preset] or a [Recipe] of its own specifies; [Refit] re-fits a
// subnet of given masks the same way. [NewSurvey] ranks the units of all modules of the dense model. [NewStatistics] does
// so too, and predicts the loss of any masks without computing with them.
//
// Errors name the layer and the module they come from. Those that callers branch on are the sentinels of this package, of
// reform and of linalg.
package oneshot
