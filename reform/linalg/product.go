package linalg

import (
	"runtime"
	"sync"
)

// Tile and block sizes of the product: a tile of tileRows×tileCols results is held in registers, depth values of both
// operands are packed for it, and blockRows rows of the left operand stay in the second-level cache.
const (
	tileRows  = 8
	tileCols  = 8
	blockRows = 96
	depth     = 256
	colsBlock = 2048
	// serialWork is the most multiplications of a product that one processor computes alone.
	serialWork = 1 << 20
)

// view is a matrix inside a larger row-major one: element (i, j) is data[i*ld+j], or data[j*ld+i] when trans is set.
type view struct {
	data  []float64
	ld    int
	trans bool
}

func (v view) t() view { v.trans = !v.trans; return v }

// at returns the view from row i and column j.
func (v view) at(i, j int) view {
	if v.trans {
		i, j = j, i
	}
	o := min(i*v.ld+j, len(v.data))
	return view{v.data[o:], v.ld, v.trans}
}

// shape is the part of a product to compute.
type shape int

const (
	whole shape = iota
	lower       // only tiles at or under the diagonal
)

// product is a product of a matrix [m, k] and a matrix [k, n], times sign.
type product struct {
	m, n, k int
	sign    float64
	part    shape
}

// add adds sign·a·b to c [m, n], which is not transposed and overlaps neither operand.
func (p product) add(a, b, c view) {
	m, n, k := p.m, p.n, p.k
	if m == 0 || n == 0 || k == 0 {
		return
	}
	workers := 1
	if float64(m)*float64(n)*float64(k) > serialWork {
		workers = min(runtime.GOMAXPROCS(0), (m+blockRows-1)/blockRows)
	}
	for jc := 0; jc < n; jc += colsBlock {
		nc := min(colsBlock, n-jc)
		packed := scratch(roundUp(nc, tileCols) * min(depth, k))
		for pc := 0; pc < k; pc += depth {
			kc := min(depth, k-pc)
			packColumns(*packed, b.at(pc, jc), kc, nc)
			rows := func(from, to int) {
				block := scratch(roundUp(min(blockRows, to-from), tileRows) * kc)
				defer giveBack(block)
				for ic := from; ic < to; ic += blockRows {
					mc := min(blockRows, to-ic)
					if p.part == lower && jc > ic+mc-1 {
						continue
					}
					packRows(*block, a.at(ic, pc), mc, kc, p.sign)
					product{m: mc, n: nc, k: kc, part: p.part}.addPacked(*block, *packed, c.at(ic, jc), ic-jc)
				}
			}
			if workers == 1 {
				rows(0, m)
				continue
			}
			var wg sync.WaitGroup
			next := make(chan int, (m+blockRows-1)/blockRows)
			for ic := 0; ic < m; ic += blockRows {
				next <- ic
			}
			close(next)
			for range workers {
				wg.Go(func() {
					for ic := range next {
						rows(ic, min(ic+blockRows, m))
					}
				})
			}
			wg.Wait()
		}
		giveBack(packed)
	}
}

// scratches reuses the memory of packed operands.
var scratches sync.Pool

// scratch returns n uninitialised numbers, to be returned by giveBack.
func scratch(n int) *[]float64 {
	s, ok := scratches.Get().(*[]float64)
	if !ok || cap(*s) < n {
		return new(make([]float64, n))
	}
	*s = (*s)[:n]
	return s
}

func giveBack(s *[]float64) { scratches.Put(s) }

// addPacked adds the product of packed operands to c, a tile at a time. diagonal is the row of c minus its column in the
// whole result. The sign is that of the packed rows.
func (p product) addPacked(a, b []float64, c view, diagonal int) {
	m, n, k := p.m, p.n, p.k
	var acc [tileRows * tileCols]float64
	for j := 0; j < n; j += tileCols {
		bp := b[j*k : (j+tileCols)*k]
		for i := 0; i < m; i += tileRows {
			if p.part == lower && j > i+diagonal+tileRows-1 {
				continue
			}
			ap := a[i*k : (i+tileRows)*k]
			if i+tileRows <= m && j+tileCols <= n {
				kernel(k, ap, bp, c.data[i*c.ld+j:], c.ld)
				continue
			}
			clear(acc[:])
			kernel(k, ap, bp, acc[:], tileCols)
			for r := range min(tileRows, m-i) {
				row := c.data[(i+r)*c.ld+j:]
				row = row[:min(tileCols, n-j)]
				for q, v := range acc[r*tileCols : r*tileCols+len(row)] {
					row[q] += v
				}
			}
		}
	}
}

// packRows lays out sign·a[m, k] so that each group of tileRows rows is contiguous, by column, zero-padded.
func packRows(dst []float64, a view, m, k int, sign float64) {
	for i := 0; i < m; i += tileRows {
		out := dst[i*k : (i+tileRows)*k]
		for r := range tileRows {
			switch {
			case i+r >= m:
				for p := range k {
					out[p*tileRows+r] = 0
				}
			case a.trans:
				for p := range k {
					out[p*tileRows+r] = sign * a.data[p*a.ld+i+r]
				}
			default:
				for p, v := range a.data[(i+r)*a.ld : (i+r)*a.ld+k] {
					out[p*tileRows+r] = sign * v
				}
			}
		}
	}
}

// packColumns lays out b[k, n] so that each group of tileCols columns is contiguous, by row, zero-padded.
func packColumns(dst []float64, b view, k, n int) {
	for j := 0; j < n; j += tileCols {
		out := dst[j*k : (j+tileCols)*k]
		width := min(tileCols, n-j)
		if width < tileCols {
			clear(out)
		}
		if b.trans {
			for q := range width {
				for p, v := range b.data[(j+q)*b.ld : (j+q)*b.ld+k] {
					out[p*tileCols+q] = v
				}
			}
			continue
		}
		for p := range k {
			copy(out[p*tileCols:p*tileCols+width], b.data[p*b.ld+j:])
		}
	}
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// Product returns a·b for a [m, k] and b [k, n].
func Product(m, n, k int, a, b []float64) []float64 {
	checkLen("a", a, m*k)
	checkLen("b", b, k*n)
	c := make([]float64, m*n)
	product{m: m, n: n, k: k, sign: 1}.add(view{data: a, ld: k}, view{data: b, ld: n}, view{data: c, ld: n})
	return c
}

// ProductT returns a·bᵀ for a [m, k] and b [n, k].
func ProductT(m, n, k int, a, b []float64) []float64 {
	checkLen("a", a, m*k)
	checkLen("b", b, n*k)
	c := make([]float64, m*n)
	product{m: m, n: n, k: k, sign: 1}.add(view{data: a, ld: k}, view{data: b, ld: k, trans: true}, view{data: c, ld: n})
	return c
}

// SubtractProduct replaces c [m, n] by c − a·b for a [m, k] and b [k, n].
func SubtractProduct(m, n, k int, a, b, c []float64) {
	checkLen("a", a, m*k)
	checkLen("b", b, k*n)
	checkLen("c", c, m*n)
	product{m: m, n: n, k: k, sign: -1}.add(view{data: a, ld: k}, view{data: b, ld: n}, view{data: c, ld: n})
}

// SubtractSquare replaces the symmetric c [n, n] by c − a·aᵀ for a [n, k].
func SubtractSquare(n, k int, a, c []float64) {
	checkLen("a", a, n*k)
	checkLen("c", c, n*n)
	av := view{data: a, ld: k}
	product{m: n, n: n, k: k, sign: -1, part: lower}.add(av, av.t(), view{data: c, ld: n})
	mirror(c, n)
}

// mirror copies the lower half of a [n, n] to the upper.
func mirror(a []float64, n int) {
	const block = 64 // both sides of a block stay in the cache
	for bi := 0; bi < n; bi += block {
		for bj := 0; bj <= bi; bj += block {
			for i := bi; i < min(bi+block, n); i++ {
				for j := bj; j < min(bj+block, i); j++ {
					a[j*n+i] = a[i*n+j]
				}
			}
		}
	}
}
