package gguf

import (
	"context"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Carry returns the subnet of src that keeps other units and has the re-fitted weights of from where both keep a unit, and those of src
// elsewhere. Types stay.
func Carry(ctx context.Context, src *File, from Subnet, to subnet.Masks) (Subnet, error) {
	hidden := to.Geometry().Hidden
	s := Subnet{Masks: to, Refit: make([]Refit, to.Layers()), Types: from.Types, Importance: from.Importance}
	for i, old := range from.Refit {
		if err := ctx.Err(); err != nil {
			return Subnet{}, err
		}
		columns, newColumns := from.Masks.OColumns(i), to.OColumns(i)
		channels, newChannels := from.Masks.Layer(i).Channels.Indices(), to.Layer(i).Channels.Indices()
		r := Refit{BO: old.BO, BD: old.BD, GA: old.GA, GM: old.GM}
		var err error
		if old.WO != nil {
			r.WO, err = src.carryColumns(layerName(i, "attn_output.weight"), hidden, old.WO, columns, newColumns)
		}
		if old.WD != nil && err == nil {
			r.WD, err = src.carryColumns(layerName(i, "ffn_down.weight"), hidden, old.WD, channels, newChannels)
		}
		if old.WU != nil && err == nil {
			r.WU, err = src.carryRows(layerName(i, "ffn_up.weight"), hidden, old.WU, channels, newChannels)
		}
		for _, w := range []struct {
			rest     string
			old      []float32
			to       *[]float32
			have, at []int
		}{
			{"ffn_gate.weight", old.WG, &r.WG, channels, newChannels}, {"attn_q.weight", old.WQ, &r.WQ, from.Masks.QRows(i), to.QRows(i)},
			{"attn_k.weight", old.WK, &r.WK, from.Masks.KVRows(i), to.KVRows(i)}, {"attn_v.weight", old.WV, &r.WV, from.Masks.KVRows(i), to.KVRows(i)},
		} {
			if l := to.Layer(i); w.old == nil || err != nil || w.rest != "ffn_gate.weight" && (l.QK != nil || l.VO != nil) {
				continue // with channels dropped inside heads the rows are those of the source
			}
			*w.to, err = src.carryRows(layerName(i, w.rest), hidden, w.old, w.have, w.at)
		}
		if err != nil {
			return Subnet{}, err
		}
		s.Refit[i] = r
	}
	return s, nil
}

// carryColumns returns the columns to of a matrix [rows, width], from those re-fitted, [rows, len(from)], where these have them.
func (f *File) carryColumns(name string, rows int, refit []float32, from, to []int) (out []float32, err error) {
	at := positions(to, from)
	if !slices.Contains(at, subnet.Zero) {
		out = make([]float32, rows*len(to))
	} else if out, err = f.columns(name, to); err != nil {
		return nil, err
	}
	for j, i := range at {
		if i == subnet.Zero {
			continue
		}
		for r := range rows {
			out[r*len(to)+j] = refit[r*len(from)+i]
		}
	}
	return out, nil
}

// carryRows returns the rows to of a matrix [rows, width], from those re-fitted, [len(from), width], where these have them.
func (f *File) carryRows(name string, width int, refit []float32, from, to []int) (out []float32, err error) {
	at := positions(to, from)
	if !slices.Contains(at, subnet.Zero) {
		out = make([]float32, len(to)*width)
	} else if out, err = f.rows(name, to); err != nil {
		return nil, err
	}
	for j, i := range at {
		if i != subnet.Zero {
			copy(out[j*width:(j+1)*width], refit[i*width:(i+1)*width])
		}
	}
	return out, nil
}
