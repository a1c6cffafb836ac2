// Package reform repairs what cutting took: it re-fits the output matrices of attention (W_O) and of the MLP (W_D) on
// the channels a mask keeps, so that they say again what the dropped ones did.
//
// [Solve] is the algebra for one matrix: exact least squares, the ADMM iteration of Shen et al. (arXiv 2409.17372), or
// nothing, with bias compensation beside each. [OneShot] walks a model layer by layer on inputs that have passed
// through the layers cut before it, chooses the units to keep as its preset says, re-fits and goes on; [Refit] does the
// same for masks that are already chosen. [NewStatistics] passes text through the dense model alone, and predicts what any
// mask would cost without computing it.
//
// Weights are [out, in] row-major as in model files; statistics are double precision. Errors name the layer and the
// module they come from; those that callers branch on are the sentinels of this package and of gram.
package reform
