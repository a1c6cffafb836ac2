package gguf

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// roundingTolerance is the largest relative difference, in Frobenius norm, between numbers of the file and of this build's conversion that
// rounding explains.
const roundingTolerance = 1e-3

// weightedTolerance is the largest squared error of numbers that were rounded by the importance of columns, over that of plain rounding to
// the same type. Weighted rounding has more error in unimportant columns.
const weightedTolerance = 4

// tensors compares every tensor of the file with that of a cut of the source.
func (v *Verification) tensors(ctx context.Context, f *File, c *Config, o VerifyOptions) error {
	v.normsRefitted, _ = f.KV().Bool(normsRefittedKey)
	v.innerRefitted, _ = f.KV().Bool(innerRefittedKey)
	v.mixed, _ = f.KV().Bool(mixedKey)
	p, err := planOf(f, c, o.Source, v)
	if err != nil {
		v.add("tensors", Failed, "%v", err)
		return nil
	}
	if p.to.Arch != c.Arch {
		v.add("tensors", Failed, "the file is of architecture %s, the subnet is written as %s", c.Arch, p.to.Arch)
		return nil
	}
	var total int64
	left := make(map[string]bool)
	for _, t := range f.Tensors() {
		left[t.Name] = true
		total += t.Size
	}
	for _, j := range p.targets {
		t, ok := f.Tensor(j.Name)
		if !ok || !slices.Equal(t.Dims, j.Dims) {
			v.add("tensors", Failed, "tensor %q has extents %v, the masks need %v", j.Name, t.Dims, j.Dims)
			return nil
		}
		delete(left, j.Name)
	}
	for name := range left {
		v.add("tensors", Failed, "tensor %q belongs to no kept unit", name)
		return nil
	}

	results := make([]comparison, len(p.targets))
	var mu sync.Mutex
	var done int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, j := range p.targets {
		g.Go(func() (err error) {
			t, _ := f.Tensor(j.Name)
			if results[i], err = p.compare(ctx, f, t, j, v.mixed); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done += t.Size
			if o.Progress != nil {
				o.Progress(done, total)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	v.judge(p.targets, results)
	return nil
}

// judge turns comparisons into findings.
func (v *Verification) judge(targets []target, results []comparison) {
	var wrong, unknown []string
	for i, j := range targets {
		r := results[i]
		relative := math.Sqrt(r.difference / r.norm)
		if r.norm == 0 {
			relative = 1
		}
		switch {
		case r.bad != "":
			wrong = append(wrong, fmt.Sprintf("tensor %q %s", j.Name, r.bad))
		case r.unreadable:
			unknown = append(unknown, j.Name)
		case r.firstRow < 0:
			v.Exact++
		case !r.verbatim && (relative <= roundingTolerance || v.mixed && r.error <= weightedTolerance*r.plain):
			v.Rounded++
		case v.refittable(j.Name):
			v.Refitted = append(v.Refitted, Change{Tensor: j.Name, Relative: relative})
		default:
			wrong = append(wrong, fmt.Sprintf("tensor %q differs from the source from row %d on", j.Name, r.firstRow))
		}
	}
	if len(wrong) > 0 {
		if len(wrong) > 3 {
			wrong = append(wrong[:3], fmt.Sprintf("and %d more", len(wrong)-3))
		}
		v.add("tensors", Failed, "%s", strings.Join(wrong, ", "))
		return
	}
	if len(unknown) > 0 {
		v.add("conversions", Skipped, "this build cannot convert to the type of %d tensors, %q first", len(unknown), unknown[0])
	}
	v.add("tensors", Passed, "%d equal to the source's to the last bit, %d differ by rounding, %d re-fitted", v.Exact, v.Rounded, len(v.Refitted))
}

// refittable reports whether re-fitting may have changed a tensor of that name.
func (v *Verification) refittable(name string) bool {
	if !strings.HasPrefix(name, "blk.") {
		return false
	}
	norm := strings.HasSuffix(name, ".attn_norm.weight") || strings.HasSuffix(name, ".ffn_norm.weight")
	inner := slices.ContainsFunc([]string{".attn_q.weight", ".attn_k.weight", ".attn_v.weight", ".attn_qkv.weight", ".ffn_gate.weight"}, func(end string) bool { return strings.HasSuffix(name, end) })
	return v.normsRefitted && norm || v.innerRefitted && inner || strings.Contains(name, ".attn_output.") || strings.Contains(name, ".ffn_down.") || strings.Contains(name, ".ffn_up.")
}

// planOf lays out the subnet of the metadata of a file, with those output biases that the file has.
func planOf(f *File, c *Config, source *File, v *Verification) (*plan, error) {
	s := Subnet{Masks: v.Masks, Refit: make([]Refit, v.Masks.Layers())}
	o := WriteOptions{Zeroed: v.Zeroed}
	p, err := newPlan(source, s, o)
	if err != nil {
		return nil, err
	}
	zeros := func() []float32 { return make([]float32, c.Hidden) }
	changed := false
	if len(c.Layers) == len(p.cut.Layers)+1 {
		s.Refit[0].BD, changed = zeros(), true
		if p, err = newPlan(source, s, o); err != nil {
			return nil, err
		}
	}
	for i, l := range p.cut.Layers {
		if f.Has(layerName(i, "attn_output.bias")) && p.biasO[i] == nil {
			s.Refit[l.Source].BO, changed = zeros(), true
		}
		if f.Has(layerName(i, "ffn_down.bias")) && p.biasD[i] == nil {
			s.Refit[l.Source].BD, changed = zeros(), true
		}
	}
	if !changed {
		return p, nil
	}
	return newPlan(source, s, o)
}

// comparison is the comparison of a tensor of a file with that of a cut.
type comparison struct {
	firstRow         int     // first row that differs in its bytes, -1 for none
	difference, norm float64 // sums of squares of the difference and of the cut, over the rows that differ
	error, plain     float64 // of files of mixed types: sums of squared errors of the file and of plain rounding, over these rows
	verbatim         bool    // rows are copied, not converted
	unreadable       bool    // this build cannot convert to the type
	bad              string  // a difference that neither rounding nor re-fitting explains
}

// compare compares the rows of a tensor with those of a cut in the same type.
func (p *plan) compare(ctx context.Context, f *File, t Tensor, j target, mixed bool) (comparison, error) {
	r := comparison{firstRow: -1, verbatim: true}
	width := t.Dims[len(t.Dims)-1]
	rowSize, _ := t.Type.RowSize(width)
	first := 0
	for _, piece := range j.pieces {
		src, _ := p.src.Tensor(piece.src)
		verbatim := piece.verbatim(src.Type, t.Type)
		r.verbatim = r.verbatim && verbatim
		if !verbatim && (!Writable(t.Type) || piece.src != "" && !Readable(src.Type)) {
			r.unreadable = true
			return r, nil
		}
		step := max(1, streamElements/max(piece.width, width))
		for lo := 0; lo < len(piece.rows); lo += step {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			rows := piece.rows[lo:min(lo+step, len(piece.rows))]
			want, err := p.rows(t.Type, piece, rows)
			if err != nil {
				return r, err
			}
			got := make([]byte, int64(len(rows))*rowSize)
			if err := f.readAt(t, got, int64(first)*rowSize); err != nil {
				return r, err
			}
			if !bytes.Equal(got, want) {
				if err := r.measure(t.Type, got, want, int(rowSize), first); err != nil {
					return r, err
				}
				if mixed && !verbatim && r.bad == "" {
					exact, err := p.values(piece, src, rows)
					if err == nil {
						err = r.measureErrors(t.Type, got, want, exact)
					}
					if err != nil {
						return r, err
					}
				}
			}
			first += len(rows)
		}
	}
	return r, nil
}

// measureErrors adds the errors of rows that differ.
func (r *comparison) measureErrors(t Type, got, want []byte, exact []float32) error {
	a, err := Decode(t, got)
	if err != nil {
		return err
	}
	b, err := Decode(t, want)
	if err != nil {
		return err
	}
	for i, v := range exact {
		own, plain := float64(a[i])-float64(v), float64(b[i])-float64(v)
		r.error += own * own
		r.plain += plain * plain
	}
	return nil
}

// measure adds rows that differ. row is the first of them in the tensor.
func (r *comparison) measure(t Type, got, want []byte, rowSize, row int) error {
	if r.firstRow < 0 {
		r.firstRow = row
		for n := rowSize; bytes.Equal(got[:n], want[:n]); n += rowSize {
			r.firstRow++
		}
	}
	if !Readable(t) {
		r.bad = fmt.Sprintf("differs from row %d on", r.firstRow)
		return nil
	}
	a, err := Decode(t, got)
	if err != nil {
		return err
	}
	b, err := Decode(t, want)
	if err != nil {
		return err
	}
	for i, v := range a {
		if v-v != 0 {
			r.bad = fmt.Sprintf("holds %v in row %d", v, row+i*(len(got)/rowSize)/len(a))
			return nil
		}
		d := float64(v) - float64(b[i])
		r.difference += d * d
		r.norm += float64(b[i]) * float64(b[i])
	}
	return nil
}
