package engine

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Write implements [explorer.Exporter].
func (m *model) Write(ctx context.Context, s gguf.Subnet, path, typ string, mon explorer.Monitor) (gguf.Report, error) {
	r, err := gguf.WriteSubnet(ctx, m.file, path, s, gguf.WriteOptions{Type: typ, Progress: func(done, total int64) {
		mon.Progress(float64(done), float64(total), "bytes", "")
	}})
	if why := m.info.NoRuntime; why != "" && err == nil {
		mon.Note("only lathe reads the file: " + why)
	}
	return r, err
}

// Read implements [explorer.Exporter]. It takes the masks that lathe writes into its files, or finds those of a file that
// was cut by other means, and the columns that re-fitting changes as they are in the file.
func (m *model) Read(ctx context.Context, path string) (gguf.Subnet, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return gguf.Subnet{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	masks, err := m.masksOf(ctx, f)
	if err != nil {
		return gguf.Subnet{}, err
	}
	s := gguf.Subnet{Masks: masks, Refit: make([]gguf.Refit, masks.Layers())}
	cut := masks.Cut()
	for i, l := range cut.Layers {
		if s.Refit[l.Source], err = m.readLayer(f, masks, i, l, cut.HeadDim); err != nil {
			return gguf.Subnet{}, err
		}
		if err := ctx.Err(); err != nil {
			return gguf.Subnet{}, err
		}
	}
	if m.geometry().OutBias {
		blankFolded(s.Refit, cut, m.geometry().Hidden)
	}
	return s, nil
}

// blankFolded sets the output biases of blocks that the file lacks to zero: it holds them in the block before.
func blankFolded(refit []gguf.Refit, cut subnet.Cut, hidden int) {
	attends, stands := make([]bool, len(refit)), make([]bool, len(refit))
	for _, l := range cut.Layers {
		attends[l.Source], stands[l.Source] = len(l.Heads) > 0, true
	}
	for i := range refit {
		if !attends[i] {
			refit[i].BO = make([]float32, hidden)
		}
		if !stands[i] {
			refit[i].BD = make([]float32, hidden)
		}
	}
}

// masksOf are the masks that a file says it has, or is found to have.
func (m *model) masksOf(ctx context.Context, f *gguf.File) (subnet.Masks, error) {
	text, ok := f.KV().String(masksKey)
	if !ok {
		return m.recognise(ctx, f)
	}
	if err := m.madeFromThis(ctx, f); err != nil {
		return subnet.Masks{}, err
	}
	masks, err := subnet.ParseMasks(m.geometry(), []byte(text))
	if err != nil {
		return subnet.Masks{}, fmt.Errorf("%s: key %q: %w", f.Path(), masksKey, err)
	}
	return masks, nil
}

// masksKey is the metadata that lathe writes masks under.
const masksKey = "general.lathe.masks"

// madeFromThis makes sure that a file says it was cut from this model.
func (m *model) madeFromThis(ctx context.Context, f *gguf.File) error {
	kv := f.KV()
	if !kv.Has(masksKey) {
		return fmt.Errorf("%s: %w: key %q, so it cannot be told what was cut", f.Path(), gguf.ErrMissing, masksKey)
	}
	want, _ := kv.String("general.lathe.source_sha256")
	got, err := m.file.SHA256(ctx)
	if err != nil {
		return err
	}
	if want != got {
		source, _ := kv.String("general.lathe.source")
		return fmt.Errorf("%s: %w: it was cut from another model, %s (%.12s, not %.12s)", f.Path(), explorer.ErrInvalid, source, want, got)
	}
	return nil
}

// readLayer reads the matrices of one layer of a cut file that re-fitting changes, as columns in the order masks keep them.
func (m *model) readLayer(f *gguf.File, masks subnet.Masks, at int, l subnet.CutLayer, headDim int) (gguf.Refit, error) {
	var r gguf.Refit
	hidden := m.geometry().Hidden
	var err error
	if columns := masks.OColumns(l.Source); len(columns) > 0 {
		if r.WO, err = columnsOf(f, fmt.Sprintf("blk.%d.attn_output.weight", at), hidden, attentionSlots(masks, l, headDim), len(columns)); err != nil {
			return r, err
		}
	}
	if n := masks.Layer(l.Source).Channels.Len(); n > 0 {
		slots := make([]int, 0, n)
		for j, c := range l.Channels {
			if c != subnet.Zero {
				slots = append(slots, j)
			}
		}
		if r.WD, err = columnsOf(f, fmt.Sprintf("blk.%d.ffn_down.weight", at), hidden, slots, n); err != nil {
			return r, err
		}
		if refit, _ := f.KV().Bool(gguf.UpRefittedKey); refit {
			if r.WU, err = rowsOf(f, fmt.Sprintf("blk.%d.ffn_up.weight", at), hidden, slots, n); err != nil {
				return r, err
			}
		}
	}
	for _, b := range []struct {
		name string
		to   *[]float32
	}{{"attn_output.bias", &r.BO}, {"ffn_down.bias", &r.BD}} {
		name := fmt.Sprintf("blk.%d.%s", at, b.name)
		if f.Has(name) {
			if *b.to, _, err = f.Float32(name); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// attentionSlots are the columns of a written W_O that hold kept units, in the order of the dense model's columns.
func attentionSlots(masks subnet.Masks, l subnet.CutLayer, headDim int) []int {
	var slots []int
	g := masks.Geometry().Layers[l.Source]
	for j, h := range l.Heads {
		if h == subnet.Zero {
			continue
		}
		group := h / g.HeadsPerGroup()
		for c, source := range l.VO[slotOf(l.Groups, group)] {
			if source != subnet.Zero {
				slots = append(slots, j*headDim+c)
			}
		}
	}
	return slots
}

func slotOf(groups []int, group int) int {
	for i, g := range groups {
		if g == group {
			return i
		}
	}
	return 0
}

// columnsOf reads some columns of a matrix [rows, …] of a file, as [rows, len(columns)].
func columnsOf(f *gguf.File, name string, rows int, columns []int, want int) ([]float32, error) {
	data, dims, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	if len(dims) != 2 || dims[0] != rows || len(columns) != want {
		return nil, fmt.Errorf("%s: tensor %q is %v, its masks promise %d columns of %d: %w", f.Path(), name, dims, want, rows, gguf.ErrFormat)
	}
	out := make([]float32, 0, rows*len(columns))
	for r := range rows {
		for _, c := range columns {
			out = append(out, data[r*dims[1]+c])
		}
	}
	return out, nil
}

// rowsOf reads some rows of a matrix […, width] of a file, as [len(rows), width].
func rowsOf(f *gguf.File, name string, width int, rows []int, want int) ([]float32, error) {
	data, dims, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	if len(dims) != 2 || dims[1] != width || len(rows) != want {
		return nil, fmt.Errorf("%s: tensor %q is %v, its masks promise %d rows of %d: %w", f.Path(), name, dims, want, width, gguf.ErrFormat)
	}
	out := make([]float32, 0, len(rows)*width)
	for _, r := range rows {
		out = append(out, data[r*width:(r+1)*width]...)
	}
	return out, nil
}

// Carry implements [explorer.Cutter].
func (m *model) Carry(ctx context.Context, from gguf.Subnet, to subnet.Masks) (gguf.Subnet, error) {
	s := gguf.Subnet{Masks: to, Refit: make([]gguf.Refit, to.Layers())}
	hidden := m.geometry().Hidden
	for i, old := range from.Refit {
		if err := ctx.Err(); err != nil {
			return gguf.Subnet{}, err
		}
		r := gguf.Refit{BO: old.BO, BD: old.BD}
		var err error
		if old.WO != nil {
			r.WO, err = m.carry(fmt.Sprintf("blk.%d.attn_output.weight", i), hidden, old.WO, from.Masks.OColumns(i), to.OColumns(i))
		}
		if old.WD != nil && err == nil {
			r.WD, err = m.carry(fmt.Sprintf("blk.%d.ffn_down.weight", i), hidden, old.WD, from.Masks.Layer(i).Channels.Indices(), to.Layer(i).Channels.Indices())
		}
		if old.WU != nil && err == nil {
			r.WU, err = m.carryRows(fmt.Sprintf("blk.%d.ffn_up.weight", i), hidden, old.WU, from.Masks.Layer(i).Channels.Indices(), to.Layer(i).Channels.Indices())
		}
		if err != nil {
			return gguf.Subnet{}, err
		}
		s.Refit[i] = r
	}
	return s, nil
}

// carry takes fitted columns over to other kept columns; those that were not kept before come from the model.
func (m *model) carry(name string, rows int, fitted []float32, from, to []int) ([]float32, error) {
	at := make(map[int]int, len(from))
	for i, c := range from {
		at[c] = i
	}
	var own []float32
	width := 0
	out := make([]float32, rows*len(to))
	for j, c := range to {
		i, ok := at[c]
		if !ok && own == nil {
			data, dims, err := m.file.Float32(name)
			if err != nil {
				return nil, err
			}
			own, width = data, dims[1]
		}
		for r := range rows {
			if ok {
				out[r*len(to)+j] = fitted[r*len(from)+i]
			} else {
				out[r*len(to)+j] = own[r*width+c]
			}
		}
	}
	return out, nil
}

// carryRows is carry for a matrix whose rows are the units, [units, width].
func (m *model) carryRows(name string, width int, fitted []float32, from, to []int) ([]float32, error) {
	at := make(map[int]int, len(from))
	for i, c := range from {
		at[c] = i
	}
	var own []float32
	out := make([]float32, 0, len(to)*width)
	for _, c := range to {
		if i, ok := at[c]; ok {
			out = append(out, fitted[i*width:(i+1)*width]...)
			continue
		}
		if own == nil {
			var err error
			if own, _, err = m.file.Float32(name); err != nil {
				return nil, err
			}
		}
		out = append(out, own[c*width:(c+1)*width]...)
	}
	return out, nil
}
