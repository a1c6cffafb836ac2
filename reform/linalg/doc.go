// Package linalg is the double-precision linear algebra for choosing and re-fitting units: symmetric positive definite
// matrices of calibration statistics, their factors and inverses, and products with them.
//
// Matrices are dense, row-major slices. [Factor] is the Cholesky factor of a symmetric one, such as the second moments
// XᵀX/tokens of the inputs of a weight matrix, and solves systems with it; [Product] and [ProductT] are general products.
// On amd64 the inner loops are assembly, fused multiply-adds over eight or four lanes by the processor's abilities;
// elsewhere they are plain Go. All return the same result up to rounding.
//
// Every function panics on slices of the wrong length, which are programming errors, and returns an error for
// what data can cause: [ErrNotPositive] for a matrix that has no Cholesky factor, [ErrNotFinite] for one with NaN or
// infinite entries.
package linalg
