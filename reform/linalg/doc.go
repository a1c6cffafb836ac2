// Package gram is the double-precision linear algebra that choosing and re-fitting channels needs: symmetric positive
// matrices of calibration statistics, their factors and inverses, and products with them.
//
// A [Matrix] is dense, square, row-major and symmetric: the second moment XᵀX/tokens of the inputs of one weight
// matrix. [Factor] is its Cholesky factor and solves against it; [Product] and [ProductT] are the general products that
// go with it. On amd64 the inner loops are assembly: fused multiply-adds over eight or four lanes, as the processor has
// them; elsewhere they are plain Go. All give the same result up to rounding.
//
// Every function panics on slices of the wrong length, which is a mistake in the program, and returns an error for
// what data can cause: [ErrNotPositive] for a matrix that has no Cholesky factor, [ErrNotFinite] for one with NaN or
// infinite entries.
package linalg
