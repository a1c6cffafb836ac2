// Package reform re-fits the remaining weights of a subnet to compensate for the pruned ones: the output matrices of
// attention (W_O) and of the MLP (W_D), by least squares on calibration activations, and on request the up-projections (W_U).
//
// [Solve] is the algebra for one matrix: exact least squares, the ADMM iteration of Shen et al. (arXiv 2409.17372), or
// no change of the weights, each with or without bias compensation. [SolveNested] re-fits one matrix for several widths at
// once. [Refit] walks through a model layer by layer, on inputs that have passed through the layers re-fitted before, as its
// [Recipe] specifies. The units to keep are those of given masks, or those that a [Chooser] chooses on the way.
//
// Weights are [out, in] row-major as in model files; statistics are double precision. Errors name the layer and the
// module they come from; those that callers branch on are the sentinels of this package and of linalg.
package reform
