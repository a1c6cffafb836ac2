package oneshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// TypeLosses are what storing the matrices of a model in other types costs it, in nats per token. They are small and can be stored.
type TypeLosses struct {
	Tokens int         `json:"tokens"` // that losses were measured on
	Groups []TypeGroup `json:"groups"`
	// Importance holds the mean squares of the inputs of matrices by the names of their tensors, as [gguf.Subnet] has them.
	Importance map[string][]float32 `json:"importance"`
}

// TypeGroup is some matrices that have one type: those of a module before its output matrix, its output matrix, or an embedding or LM head.
type TypeGroup struct {
	Layer   int           `json:"layer"` // -1 outside the layers
	Module  subnet.Module `json:"module"`
	Output  bool          `json:"output,omitempty"`
	Tensors []string      `json:"tensors"`
	Width   int           `json:"width"` // of the rows in the dense model
	Source  string        `json:"source"`
	// Probe is the type whose loss was measured, as the divergence from the dense model with the group in that type and everything else
	// dense; Losses follow from it by the weighted squared errors of the types.
	Probe    string  `json:"probe"`
	Measured float64 `json:"measured"`
	// Losses are those of the source's numbers, Refitted those of numbers that are on no grid, as after a re-fit; by the names of types.
	Losses   map[string]float64 `json:"losses"`
	Refitted map[string]float64 `json:"refitted_losses,omitempty"`
}

// Name names the group in tables and errors.
func (g *TypeGroup) Name() string {
	switch {
	case g.Layer < 0:
		return g.Tensors[0]
	case g.Output:
		return fmt.Sprintf("layer %d %v output", g.Layer, g.Module)
	}
	return fmt.Sprintf("layer %d %v inner", g.Layer, g.Module)
}

// Fits reports whether the losses are complete, of a model of a shape, as its file has it.
func (t *TypeLosses) Fits(g *subnet.Geometry, file *gguf.File) bool {
	heads := slices.IndexFunc(t.Groups, func(g TypeGroup) bool { return g.Layer < 0 })
	return heads >= 0 && t.complete(g, file, 0, len(g.Layers))
}

// complete reports whether the losses have each group of some layers once, as the file has it.
func (t *TypeLosses) complete(g *subnet.Geometry, file *gguf.File, from, to int) bool {
	type key struct {
		layer  int
		module subnet.Module
		output bool
	}
	want := make(map[key]bool)
	for i := from; i < to; i++ {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if g.OutputColumns(i, module) > 0 {
				want[key{i, module, false}], want[key{i, module, true}] = true, true
			}
		}
	}
	for _, group := range t.Groups {
		if len(group.Tensors) == 0 {
			return false
		}
		k := key{group.Layer, group.Module, group.Output}
		if group.Layer >= 0 && !want[k] {
			return false
		}
		delete(want, k)
		for _, name := range group.Tensors {
			stored, ok := file.Tensor(name)
			if !ok || stored.Dims[len(stored.Dims)-1] != group.Width {
				return false
			}
			if of := t.Importance[name]; of != nil && len(of) != group.Width {
				return false
			}
		}
	}
	return len(want) == 0
}

// Loader loads the dense model with its matrices changed by round, as [decoder.WithRounding], on the device of the model that is measured. The
// caller closes it.
type Loader func(ctx context.Context, round func(tensor string, width int, data []float32) error) (*decoder.Model, error)

// TypeCandidates are the types that matrices may get, the largest first: those that ggml's processors compute with and this build writes.
func TypeCandidates() []subnet.Type {
	all := []subnet.Type{
		subnet.Q8_0, subnet.Q6_K, subnet.Q5_1, subnet.Q5_K, subnet.Q5_0, subnet.Q4_1, subnet.Q4_K, subnet.Q4_0, subnet.IQ4_NL, subnet.IQ4_XS,
		subnet.Q3_K, subnet.IQ3_S, subnet.IQ3_XXS, subnet.Q2_K, subnet.IQ2_S,
	}
	return slices.DeleteFunc(all, func(t subnet.Type) bool { return !gguf.Writable(t) || !gguf.Readable(t) })
}

const (
	// typeRows is how many rows of a matrix the errors of types are computed on, evenly spread.
	typeRows = 128
	// leastProbeBits and probeBits bound the size of the probed type, in bits for a number: coarse enough that its divergence is far above
	// rounding errors, and near the types that are chosen.
	leastProbeBits, probeBits = 4.2, 4.75
	// typeProbeTokens is how many tokens of each window type losses are measured on.
	typeProbeTokens = 512
	// headProbeTokens is the same for embeddings and the LM head, on the whole vocabulary.
	headProbeTokens = 192
	// dither is the width of the uniform noise, in root mean squares of a row, that takes numbers off the grid of their type.
	dither = 0.3
)

// ErrTypes means that matrices cannot be stored in types that were asked for.
var ErrTypes = errors.New("types cannot be chosen")

// TypeMeasuring configures [MeasureTypes].
type TypeMeasuring struct {
	// Kept are the losses that an interrupted run over the same windows kept, nil for none: its whole layers are not measured again.
	Kept *TypeLosses
	// Keep, unless nil, is called after each layer with the losses so far.
	Keep     func(*TypeLosses) error
	Progress func(Event) // as in Config
}

// MeasureTypes measures, group by group, what types cost, in one pass of windows through the dense model. file is that of the model. A run that
// continues an interrupted one has the same result as one in one go.
func MeasureTypes(ctx context.Context, m *decoder.Model, file *gguf.File, load Loader, windows [][]int32, o TypeMeasuring) (*TypeLosses, error) {
	p, err := newProber(ctx, m, windows)
	if err != nil {
		return nil, err
	}
	defer p.close()
	p.text.Length = typeProbeTokens
	layers := len(m.Geometry().Layers)
	t := &typeMeter{prober: p, file: file, losses: &TypeLosses{Importance: make(map[string][]float32)}}
	for _, w := range p.probes {
		t.losses.Tokens += min(len(w), typeProbeTokens)
	}
	kept := make([]bool, layers)
	for layer := range layers {
		kept[layer] = o.Kept != nil && t.losses.take(o.Kept, m.Geometry(), file, layer)
	}
	report := func(done int) {
		if o.Progress != nil {
			o.Progress(Event{Phase: Typing, Done: done, Total: layers + 1})
		}
	}
	err = p.run(ctx, visitor{
		needs: importance.Needs{Weights: true, Inputs: true},
		skip:  func(layer int, _ subnet.Module) bool { return kept[layer] },
		module: func(layer int, module subnet.Module, b *importance.Block) error {
			return t.module(ctx, layer, module, b)
		},
		layer: func(layer int, _ float64) error {
			if o.Keep != nil && !kept[layer] {
				if err := o.Keep(t.losses); err != nil {
					return err
				}
			}
			report(layer + 1)
			return ctx.Err()
		},
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"token_embd.weight", "output.weight"} {
		if file.Has(name) {
			if err := t.head(ctx, name, load); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	slices.SortStableFunc(t.losses.Groups, func(a, b TypeGroup) int { return cmp.Compare(uint(a.Layer), uint(b.Layer)) }) // those outside layers last
	report(layers + 1)
	return t.losses, nil
}

// take takes over the groups of a layer from other losses, where they are complete, and reports whether they are.
func (t *TypeLosses) take(from *TypeLosses, g *subnet.Geometry, file *gguf.File, layer int) bool {
	one := &TypeLosses{Importance: from.Importance}
	for _, group := range from.Groups {
		if group.Layer == layer {
			one.Groups = append(one.Groups, group)
		}
	}
	if !one.complete(g, file, layer, layer+1) {
		return false
	}
	for _, group := range one.Groups {
		t.Groups = append(t.Groups, group)
		for _, tensor := range group.Tensors {
			if of := from.Importance[tensor]; of != nil {
				t.Importance[tensor] = of
			}
		}
	}
	return true
}

// typeMeter measures the losses of types.
type typeMeter struct {
	*prober
	file   *gguf.File
	losses *TypeLosses
}

// typed is a matrix whose types are measured.
type typed struct {
	tensor, matrix string // the name in the file, and that of [decoder.Model.Weights]
	data           []float32
	rows, width    int
	weights        []float32 // importance of columns, nil for none
}

// tensorName returns the name of a tensor by that of a matrix in [decoder.Model.Weights].
func tensorName(layer int, matrix string) string {
	rest := map[string]string{"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}[matrix]
	return fmt.Sprintf("blk.%d.%s.weight", layer, rest)
}

// outputTensor returns the name of the tensor of a module's output matrix.
func outputTensor(layer int, module subnet.Module) string {
	if module == subnet.Attention {
		return tensorName(layer, "o")
	}
	return tensorName(layer, "down")
}

// module measures the two groups of a module.
func (t *typeMeter) module(ctx context.Context, layer int, module subnet.Module, b *importance.Block) error {
	inner := diagonal(b.In.Gram, b.In.N)
	var group []typed
	for i, name := range t.m.InnerMatrices(module) {
		w := b.Inner[i]
		group = append(group, typed{tensorName(layer, name), name, w.Data, w.Out, w.In, inner})
	}
	if err := t.group(ctx, layer, module, false, group); err != nil {
		return err
	}
	name := t.m.OutputMatrix(module)
	return t.group(ctx, layer, module, true, []typed{{tensorName(layer, name), name, b.Output.Data, b.Output.Out, b.Output.In, diagonal(b.Mid.Gram, b.Mid.N)}})
}

func diagonal(gram []float64, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(gram[i*n+i])
	}
	return out
}

// group measures one group of a layer.
func (t *typeMeter) group(ctx context.Context, layer int, module subnet.Module, output bool, matrices []typed) error {
	g, probe, scale, err := t.errors(layer, module, output, matrices)
	if err != nil {
		return err
	}
	if probe == nil { // no other type fits
		t.losses.Groups = append(t.losses.Groups, *g)
		return nil
	}
	by := make(map[string][]float32, len(matrices))
	for _, w := range matrices {
		if by[w.matrix], err = gguf.Round(*probe, w.data, w.width, w.weights); err != nil {
			return err
		}
	}
	cut, err := t.dense.WithMatrices(ctx, layer, by)
	if err != nil {
		return err
	}
	defer cut.Close()
	if g.Measured, err = t.small(ctx, cut); err != nil {
		return err
	}
	g.finish(scale)
	t.losses.Groups = append(t.losses.Groups, *g)
	return nil
}

// small measures the divergence of a subnet that may be close to the dense model.
func (t *typeMeter) small(ctx context.Context, s *decoder.Subnet) (float64, error) {
	score, err := t.scorer.Score(ctx, s, t.text)
	if err != nil {
		return 0, err
	}
	return finiteLoss(score.KL / float64(score.Tokens))
}

// finiteLoss returns the loss of a probe by its divergence.
func finiteLoss(divergence float64) (float64, error) {
	if math.IsNaN(divergence) || math.IsInf(divergence, 0) {
		return 0, fmt.Errorf("%w: the divergence of the probe is %v", ErrTypes, divergence)
	}
	return max(divergence, leastTypeLoss), nil
}

// leastTypeLoss keeps a group that the divergence cannot see from looking free.
const leastTypeLoss = 1e-6

// errors computes the errors of all candidates in a group, and chooses the type to probe, nil where there is none.
func (t *typeMeter) errors(layer int, module subnet.Module, output bool, matrices []typed) (g *TypeGroup, probe *subnet.Type, scale float64, err error) {
	g = &TypeGroup{Layer: layer, Module: module, Output: output, Width: matrices[0].width, Losses: make(map[string]float64)}
	source := subnet.Type(math.MaxUint32)
	for _, w := range matrices {
		stored, ok := t.file.Tensor(w.tensor)
		if !ok {
			return nil, nil, 0, fmt.Errorf("%w: the file has no tensor %q", ErrTypes, w.tensor)
		}
		if !source.Known() || bits(stored.Type) > bits(source) {
			source = stored.Type
		}
		g.Tensors = append(g.Tensors, w.tensor)
		if w.weights != nil {
			t.losses.Importance[w.tensor] = w.weights
		}
	}
	g.Source = source.String()
	if output {
		g.Refitted = make(map[string]float64)
	}
	add := func(typ subnet.Type) (float64, error) {
		own, err := groupError(typ, matrices, false)
		if err != nil {
			return 0, err
		}
		g.Losses[typ.String()] = own
		if output {
			if g.Refitted[typ.String()], err = groupError(typ, matrices, true); err != nil {
				return 0, err
			}
		}
		return own, nil
	}
	if gguf.Writable(source) {
		if _, err := add(source); err != nil {
			return nil, nil, 0, err
		}
	}
	g.Losses[g.Source] = 0 // stored rows are copied
	for _, typ := range TypeCandidates() {
		if _, fits := typ.RowSize(g.Width); !fits || typ == source {
			continue
		}
		own, err := add(typ)
		if err != nil {
			return nil, nil, 0, err
		}
		if own > 0 && (probe == nil || betterProbe(typ, own, *probe, scale)) {
			probe, scale = &typ, own
		}
	}
	if probe != nil {
		g.Probe = probe.String()
	}
	return g, probe, scale, nil
}

// betterProbe reports whether a type with an error is the better one to measure: one of about four bits and a half, of those that with the
// larger error, whose divergence is the farthest above rounding errors; otherwise the smaller one. A type whose grid nearly holds that of the
// source has next to no error.
func betterProbe(t subnet.Type, err float64, than subnet.Type, its float64) bool {
	inside := func(t subnet.Type) bool { return bits(t) > leastProbeBits && bits(t) <= probeBits }
	switch {
	case inside(t) && inside(than):
		return err > its
	case inside(t) || inside(than):
		return inside(t)
	}
	return bits(t) < bits(than)
}

// finish turns errors into losses, by the measured loss of the probe and its error.
func (g *TypeGroup) finish(probed float64) {
	for _, losses := range []map[string]float64{g.Losses, g.Refitted} {
		for t, e := range losses {
			losses[t] = e / probed * g.Measured
		}
	}
}

// bits returns the size of a number, in bits.
func bits(t subnet.Type) float64 { return 8 * float64(t.BlockBytes()) / float64(t.Block()) }

// groupError returns the mean over a group's matrices of the weighted squared error of a type over the energy. Errors of different columns
// are taken as independent, so that the second moments count by their diagonal.
func groupError(typ subnet.Type, matrices []typed, offGrid bool) (float64, error) {
	var sum float64
	for _, w := range matrices {
		rows := sampledRows(w.rows)
		data := make([]float32, 0, len(rows)*w.width)
		for _, r := range rows {
			data = append(data, w.data[r*w.width:(r+1)*w.width]...)
		}
		if offGrid {
			dithered(data, w.width)
		}
		back, err := gguf.Round(typ, data, w.width, w.weights)
		if err != nil {
			return 0, err
		}
		var e, energy float64
		for i, v := range data {
			weight := 1.0
			if w.weights != nil {
				weight = float64(w.weights[i%w.width])
			}
			d := float64(back[i]) - float64(v)
			e += weight * d * d
			energy += weight * float64(v) * float64(v)
		}
		if energy > 0 {
			sum += e / energy / float64(len(matrices))
		}
	}
	return sum, nil
}

// sampledRows returns at most typeRows of n rows.
func sampledRows(n int) []int {
	count := min(n, typeRows)
	rows := make([]int, count)
	for i := range rows {
		rows[i] = i * n / count
	}
	return rows
}

// dithered adds uniform noise to rows, the same each time.
func dithered(data []float32, width int) {
	rng := rand.New(rand.NewPCG(1, uint64(width)))
	for row := range slices.Chunk(data, width) {
		var square float64
		for _, v := range row {
			square += float64(v) * float64(v) / float64(width)
		}
		scale := dither * math.Sqrt(square)
		for i := range row {
			row[i] += float32(scale * (rng.Float64() - 0.5))
		}
	}
}

// head measures an embedding or LM head, with a second model.
func (t *typeMeter) head(ctx context.Context, tensor string, load Loader) error {
	data, dims, err := t.file.Float32(tensor)
	if err != nil {
		return err
	}
	g, probe, scale, err := t.errors(-1, subnet.Attention, false, []typed{{tensor: tensor, data: data, rows: dims[0], width: dims[1]}})
	if err != nil {
		return err
	}
	if probe == nil { // no other type fits
		t.losses.Groups = append(t.losses.Groups, *g)
		return nil
	}
	m, err := load(ctx, func(name string, width int, data []float32) error {
		if name != tensor {
			return nil
		}
		back, err := gguf.Round(*probe, data, width, nil)
		copy(data, back)
		return err
	})
	if err != nil {
		return err
	}
	defer m.Close()
	divergence, err := DivergenceOf(ctx, t.m, m, t.probes)
	if err != nil {
		return err
	}
	if g.Measured, err = finiteLoss(divergence); err != nil {
		return err
	}
	g.finish(scale)
	t.losses.Groups = append(t.losses.Groups, *g)
	return nil
}
