package gguf

import (
	"context"
	"fmt"
	"os"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Refit holds the re-fitted weights of one layer. A nil matrix means the original one.
type Refit struct {
	// WO is [hidden, kept attention channels], the columns in the order of [subnet.Masks.OColumns].
	WO []float32
	// WD is [hidden, kept MLP channels], the columns in increasing order.
	WD []float32
	// WU is [kept MLP channels, hidden], the rows in increasing order.
	WU []float32
	// WG is the same of the gate. WQ, WK and WV are [kept channels, hidden], the rows in increasing order, of layers that keep all channels inside
	// their heads.
	WG, WQ, WK, WV []float32
	// BO and BD are biases [hidden] on the output of attention and of the MLP, nil for none.
	BO, BD []float32
	// GA and GM are the gains [hidden] of the norms before attention and before the MLP.
	GA, GM []float32
}

// IsZero reports whether the layer has its original weights.
func (r Refit) IsZero() bool {
	return r.WO == nil && r.WD == nil && r.WU == nil && r.BO == nil && r.BD == nil && r.GA == nil && r.GM == nil && !r.Inner()
}

// Inner reports whether a matrix before the output matrices is re-fitted that no other field of the layer is about: all but W_U.
func (r Refit) Inner() bool { return r.WG != nil || r.WQ != nil || r.WK != nil || r.WV != nil }

// Subnet holds the units kept and the weights that were re-fitted.
type Subnet struct {
	Masks subnet.Masks
	// Refit has one element per layer of the dense model, or is nil where nothing was re-fitted.
	Refit []Refit
	// Types are the types of matrices by the names of their tensors in the source, such as blk.3.ffn_up.weight; those not listed have
	// that of the source. As with [WriteOptions].Type, a matrix falls back to a type that fits its rows.
	Types map[string]Type
	// Importance holds, by the same names, the mean squares of what multiplies the columns of a matrix of the source. Matrices listed in
	// Types are rounded so that errors in important columns are small, see [EncodeWeighted].
	Importance map[string][]float32
	// Provenance is stored under general.lathe.KEY; values are of the types that [KV.Set] takes.
	Provenance map[string]any
}

// WriteOptions are the options of [WriteSubnet].
type WriteOptions struct {
	// Type is the type of the matrices (F32, F16, Q8_0, Q4_0, Q4_1, Q6_K, Q5_K, Q4_K, …) in place of [Subnet].Types; "" keeps those, or that of each
	// in the source. Matrices whose rows
	// are not whole blocks of the type, or with numbers beyond its range, fall back to one that fits, see [Report].
	Type string
	// Zeroed writes the shapes and the architecture of the dense model, with zeros for dropped units: the same function, but no smaller.
	Zeroed bool
	// Progress is called from time to time with the bytes of tensors written so far and in total; nil for none.
	Progress func(done, total int64)
}

// Report describes a file that [WriteSubnet] wrote.
type Report struct {
	Path string `json:"path"`
	// Arch is the architecture of the file.
	Arch string `json:"architecture"`
	// Bytes is the size of the file, TensorBytes that of its tensors without padding, SourceBytes the size of the source file.
	Bytes       int64 `json:"bytes"`
	TensorBytes int64 `json:"tensor_bytes"`
	SourceBytes int64 `json:"source_bytes"`
	// ByType splits TensorBytes by the name of the type.
	ByType map[string]int64 `json:"bytes_by_type"`
	// Fallbacks are the tensors stored in a type other than the one asked for.
	Fallbacks []Fallback `json:"fallbacks,omitempty"`
	// CompactParams counts the parameters of the block matrices that the file does not hold, ZeroedParams those of dropped units that it
	// holds as zeros. Zeroed lists the latter.
	CompactParams int64        `json:"compact_params"`
	ZeroedParams  int64        `json:"zeroed_params"`
	Zeroed        []ZeroedUnit `json:"zeroed,omitempty"`
	// Notes are about a folder that was written of the file.
	Notes []string `json:"notes,omitempty"`
}

// Fallback is a tensor whose rows did not fit the blocks of the type asked for, or whose numbers did not fit its range.
type Fallback struct {
	Tensor string `json:"tensor"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Reason string `json:"reason"`
}

// ZeroedUnit describes dropped units that the file holds as zeros.
type ZeroedUnit struct {
	// Layer is the index in the dense model.
	Layer int `json:"layer"`
	// What names the units, Why the rule of the format that requires them.
	What string `json:"what"`
	Why  string `json:"why"`
	// Params counts the zeros.
	Params int64 `json:"params"`
}

// WriteSubnet writes to dst the units of the model src that s keeps, with the re-fitted weights of s. Either the whole file appears or none.
//
// Dropped units are removed where the format allows it and are zeros otherwise, see [subnet.Masks.Cut]; [Report] counts both. A subnet whose
// layers have equal counts keeps the architecture of the source; otherwise the file has the architecture of the family for layers that
// differ, see [subnet.Files]. Unchanged rows keep their stored bytes, so that only the columns of W_O and W_D are quantised again. An output
// bias is not a unit: it remains when all units of its block are dropped.
//
// Errors wrap [ErrSubnet] where masks or re-fitted weights do not fit the model or no file can hold them, [ErrType] where a type cannot be
// read or written, or the error of the operating system, and name the file.
func WriteSubnet(ctx context.Context, src *File, dst string, s Subnet, o WriteOptions) (Report, error) {
	p, err := newPlan(src, s, o)
	if err != nil {
		return Report{}, err
	}
	if err := notTheSource(src, dst); err != nil {
		return Report{}, err
	}
	if err := p.widen(ctx); err != nil {
		return Report{}, err
	}
	hash, err := src.SHA256(ctx)
	if err != nil {
		return Report{}, err
	}
	w, err := p.create(dst, hash)
	if err != nil {
		return Report{}, err
	}
	defer w.Abort()
	var done int64
	for _, j := range p.targets {
		err := p.write(ctx, w, j, func(bytes int) {
			done += int64(bytes)
			if o.Progress != nil {
				o.Progress(done, p.report.TensorBytes)
			}
		})
		if err != nil {
			return Report{}, err
		}
	}
	p.report.Path, p.report.Bytes = dst, w.Bytes()
	if err := w.Commit(); err != nil {
		return Report{}, err
	}
	return p.report, nil
}

func (p *plan) create(dst, hash string) (*Writer, error) {
	kv, err := p.metadata(hash)
	if err != nil {
		return nil, fmt.Errorf("gguf: writing %s: %w", dst, err)
	}
	return Create(dst, kv, p.tensors())
}

func (p *plan) tensors() []Tensor {
	tensors := make([]Tensor, len(p.targets))
	for i, j := range p.targets {
		tensors[i] = j.Tensor
	}
	return tensors
}

// notTheSource returns an error where the file would replace the model that it is cut from.
func notTheSource(src *File, dst string) error {
	a, err := os.Stat(src.path)
	if err != nil {
		return nil
	}
	if b, err := os.Stat(dst); err == nil && os.SameFile(a, b) {
		return fmt.Errorf("gguf: writing %s: it is the model that the subnet is cut from", dst)
	}
	return nil
}
