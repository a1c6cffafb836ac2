package algebra

import (
	"fmt"
	"strconv"
	"strings"
)

// The programs, in StableHLO's text. In templates, R and P are the numbers of rows and columns, and K and S other sizes; MAT is the
// type of a matrix [R, P], SQ that of [P, P], VEC that of [P] and NUM that of a number.

func fill(template string, sizes map[string]int) string {
	var pairs []string
	for name, n := range sizes {
		pairs = append(pairs, "{"+name+"}", strconv.Itoa(n))
	}
	types := strings.NewReplacer("MAT", "tensor<{R}x{P}xf64>", "SQ", "tensor<{P}x{P}xf64>", "VEC", "tensor<{P}xf64>", "NUM", "tensor<f64>")
	return strings.NewReplacer(pairs...).Replace(types.Replace(template))
}

// productText multiplies [m, k] by [k, n].
func productText(m, n, k int) string {
	return fmt.Sprintf(`module @product {
  func.func public @main(%%a: tensor<%[1]dx%[3]dxf64>, %%b: tensor<%[3]dx%[2]dxf64>) -> tensor<%[1]dx%[2]dxf64> {
    %%c = stablehlo.dot_general %%a, %%b, contracting_dims = [1] x [0], precision = [HIGHEST, HIGHEST] : (tensor<%[1]dx%[3]dxf64>, tensor<%[3]dx%[2]dxf64>) -> tensor<%[1]dx%[2]dxf64>
    return %%c : tensor<%[1]dx%[2]dxf64>
  }
}
`, m, n, k)
}

// factored computes %l, the lower factor of %a + %shift·I, and %pivot, the least number on its diagonal; NaN where there is no factor.
const factored = `
    %rows = stablehlo.iota dim = 0 : tensor<{P}x{P}xi32>
    %cols = stablehlo.iota dim = 1 : tensor<{P}x{P}xi32>
    %diag = stablehlo.compare EQ, %rows, %cols : (tensor<{P}x{P}xi32>, tensor<{P}x{P}xi32>) -> tensor<{P}x{P}xi1>
    %below = stablehlo.compare GE, %rows, %cols : (tensor<{P}x{P}xi32>, tensor<{P}x{P}xi32>) -> tensor<{P}x{P}xi1>
    %none = stablehlo.constant dense<0.0> : SQ
    %shifts = stablehlo.broadcast_in_dim %shift, dims = [] : (NUM) -> SQ
    %ridge = stablehlo.select %diag, %shifts, %none : tensor<{P}x{P}xi1>, SQ
    %sum = stablehlo.add %a, %ridge : SQ
    %chol = "stablehlo.cholesky"(%sum) {lower = true} : (SQ) -> SQ
    %l = stablehlo.select %below, %chol, %none : tensor<{P}x{P}xi1>, SQ
    %far = stablehlo.constant dense<0x7FF0000000000000> : SQ
    %farthest = stablehlo.constant dense<0x7FF0000000000000> : NUM
    %pivots = stablehlo.select %diag, %l, %far : tensor<{P}x{P}xi1>, SQ
    %pivot = stablehlo.reduce(%pivots init: %farthest) applies stablehlo.minimum across dimensions = [0, 1] : (SQ, NUM) -> NUM
`

// factorText factors.
func factorText(p int) string {
	return fill(`module @factor {
  func.func public @main(%a: SQ, %shift: NUM) -> (SQ, NUM) {`+factored+`
    return %l, %pivot : SQ, NUM
  }
}
`, map[string]int{"P": p})
}

// solveLine is a triangular solution y of y·lᵀ = x, or with NO_TRANSPOSE of y·l = x.
func solveLine(y, l, x, transpose, typ string) string {
	return fmt.Sprintf("\n    %%%s = \"stablehlo.triangular_solve\"(%%%s, %%%s) {left_side = false, lower = true, unit_diagonal = false, transpose_a = #stablehlo<transpose %s>} : (SQ, %s) -> %s\n",
		y, l, x, transpose, typ, typ)
}

// solveText divides b [r, p] by L·Lᵀ ("solve"), Lᵀ ("lower") or L ("upper").
func solveText(kind string, r, p int) string {
	body, last := "", "b"
	if kind != "upper" {
		body, last = solveLine("y", "l", last, "TRANSPOSE", "MAT"), "y"
	}
	if kind != "lower" {
		body, last = body+solveLine("x", "l", last, "NO_TRANSPOSE", "MAT"), "x"
	}
	return fill(`module @solve {
  func.func public @main(%l: SQ, %b: MAT) -> MAT {`+body+`
    return %`+last+` : MAT
  }
}
`, map[string]int{"R": r, "P": p})
}

// inverted computes %inverse from %l: both halves of the solution for the identity, averaged, so that it is symmetric.
var inverted = `
    %ones = stablehlo.constant dense<1.0> : SQ
    %eye = stablehlo.select %diag, %ones, %none : tensor<{P}x{P}xi1>, SQ` +
	solveLine("half", "l", "eye", "TRANSPOSE", "SQ") + solveLine("whole", "l", "half", "NO_TRANSPOSE", "SQ") + `
    %flipped = stablehlo.transpose %whole, dims = [1, 0] : (SQ) -> SQ
    %both = stablehlo.add %whole, %flipped : SQ
    %halves = stablehlo.constant dense<0.5> : SQ
    %inverse = stablehlo.multiply %both, %halves : SQ
`

// inverseText inverts L·Lᵀ.
func inverseText(p int) string {
	return fill(`module @inverse {
  func.func public @main(%l: SQ) -> SQ {
    %rows = stablehlo.iota dim = 0 : tensor<{P}x{P}xi32>
    %cols = stablehlo.iota dim = 1 : tensor<{P}x{P}xi32>
    %diag = stablehlo.compare EQ, %rows, %cols : (tensor<{P}x{P}xi32>, tensor<{P}x{P}xi32>) -> tensor<{P}x{P}xi1>
    %none = stablehlo.constant dense<0.0> : SQ`+inverted+`
    return %inverse : SQ
  }
}
`, map[string]int{"P": p})
}

// leadingText returns the first columns of a factor [k, k], as many as a number states, with a border to [p, p].
func leadingText(k, p int) string {
	return fill(`module @leading {
  func.func public @main(%all: tensor<{K}x{K}xf64>, %n: NUM) -> SQ {
    %l = stablehlo.slice %all [0:{P}, 0:{P}] : (tensor<{K}x{K}xf64>) -> SQ
    %rows = stablehlo.iota dim = 0 : SQ
    %cols = stablehlo.iota dim = 1 : SQ
    %ns = stablehlo.broadcast_in_dim %n, dims = [] : (NUM) -> SQ
    %diag = stablehlo.compare EQ, %rows, %cols : (SQ, SQ) -> tensor<{P}x{P}xi1>
    %inrows = stablehlo.compare LT, %rows, %ns : (SQ, SQ) -> tensor<{P}x{P}xi1>
    %incols = stablehlo.compare LT, %cols, %ns : (SQ, SQ) -> tensor<{P}x{P}xi1>
    %in = stablehlo.and %inrows, %incols : tensor<{P}x{P}xi1>
    %none = stablehlo.constant dense<0.0> : SQ
    %ones = stablehlo.constant dense<1.0> : SQ
    %eye = stablehlo.select %diag, %ones, %none : tensor<{P}x{P}xi1>, SQ
    %out = stablehlo.select %in, %l, %eye : tensor<{P}x{P}xi1>, SQ
    return %out : SQ
  }
}
`, map[string]int{"K": k, "P": p})
}

// admmText is the iteration of linalg.ADMM. It returns Z, the excess after each step, and the least pivot.
func admmText(r, p, steps int) string {
	return fill(`module @admm {
  func.func public @main(%a: SQ, %c: MAT, %cross: MAT, %start: MAT, %keep: VEC, %shift: NUM, %rho: NUM) -> (MAT, tensor<{S}xf64>, NUM) {`+factored+inverted+`
    %zeros = stablehlo.constant dense<0.0> : MAT
    %zero = stablehlo.constant dense<0.0> : NUM
    %two = stablehlo.constant dense<2.0> : NUM
    %half1 = stablehlo.constant dense<0.5> : VEC
    %kept1 = stablehlo.compare GT, %keep, %half1 : (VEC, VEC) -> tensor<{P}xi1>
    %kept = stablehlo.broadcast_in_dim %kept1, dims = [1] : (tensor<{P}xi1>) -> tensor<{R}x{P}xi1>
    %rhos = stablehlo.broadcast_in_dim %rho, dims = [] : (NUM) -> MAT
    %curve0 = stablehlo.constant dense<0.0> : tensor<{S}xf64>
    %step0 = stablehlo.constant dense<0> : tensor<i32>
    %one = stablehlo.constant dense<1> : tensor<i32>
    %steps = stablehlo.constant dense<{S}> : tensor<i32>
    %end:4 = stablehlo.while(%i = %step0, %z = %start, %u = %zeros, %curve = %curve0) : tensor<i32>, MAT, MAT, tensor<{S}xf64>
    cond {
      %more = stablehlo.compare LT, %i, %steps : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %more : tensor<i1>
    } do {
      %zu = stablehlo.subtract %z, %u : MAT
      %pull = stablehlo.multiply %rhos, %zu : MAT
      %right = stablehlo.add %c, %pull : MAT
      %w = stablehlo.dot_general %right, %inverse, contracting_dims = [1] x [0], precision = [HIGHEST, HIGHEST] : (MAT, SQ) -> MAT
      %wu = stablehlo.add %w, %u : MAT
      %znext = stablehlo.select %kept, %wu, %zeros : tensor<{R}x{P}xi1>, MAT
      %unext = stablehlo.subtract %wu, %znext : MAT
      %zh = stablehlo.dot_general %znext, %a, contracting_dims = [1] x [0], precision = [HIGHEST, HIGHEST] : (MAT, SQ) -> MAT
      %zhz = stablehlo.multiply %zh, %znext : MAT
      %square = stablehlo.reduce(%zhz init: %zero) applies stablehlo.add across dimensions = [0, 1] : (MAT, NUM) -> NUM
      %zc = stablehlo.multiply %znext, %cross : MAT
      %inner = stablehlo.reduce(%zc init: %zero) applies stablehlo.add across dimensions = [0, 1] : (MAT, NUM) -> NUM
      %twice = stablehlo.multiply %two, %inner : NUM
      %excess = stablehlo.subtract %square, %twice : NUM
      %excess1 = stablehlo.reshape %excess : (NUM) -> tensor<1xf64>
      %curvenext = stablehlo.dynamic_update_slice %curve, %excess1, %i : (tensor<{S}xf64>, tensor<1xf64>, tensor<i32>) -> tensor<{S}xf64>
      %next = stablehlo.add %i, %one : tensor<i32>
      stablehlo.return %next, %znext, %unext, %curvenext : tensor<i32>, MAT, MAT, tensor<{S}xf64>
    }
    return %end#1, %end#3, %pivot : MAT, tensor<{S}xf64>, NUM
  }
}
`, map[string]int{"R": r, "P": p, "S": steps})
}
