package importance

import (
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

var (
	// ErrMethod means that a method of ranking does not exist, or not for the kind of unit.
	ErrMethod = errors.New("unknown importance method")
	// ErrNeeds means that a block lacks statistics that the method needs.
	ErrNeeds = errors.New("statistics missing")
)

// Method names a way to score units.
type Method string

// The methods. W is the output matrix (W_O or W_D), x its inputs and H = E xxᵀ; a unit owns columns of W and rows of the
// block's other matrices.
const (
	// Phi is the initialisation of arXiv 2409.17372: W_ij²/[(2H + damp)⁻¹]_jj with each matrix's own inputs, summed over
	// the rows and columns that a unit owns.
	Phi Method = "phi"
	// PhiDiagonal is Phi with the inverse of the diagonal alone.
	PhiDiagonal Method = "phi-diagonal"
	// OBS repeatedly drops the units whose removal changes the outputs least after a re-fit, and updates the rest (optimal
	// brain surgeon; ZipLM, arXiv 2302.04089).
	OBS Method = "obs"
	// FLAP is the fluctuation of arXiv 2312.11983: Var(x_j)·‖W_:j‖².
	FLAP Method = "flap"
	// Magnitude is the squared norm of all weights a unit owns.
	Magnitude Method = "magnitude"
	// Wanda is the activation-weighted magnitude of arXiv 2306.11695, √H_jj·Σ|W_ij|, summed over a unit's columns.
	Wanda Method = "wanda"
	// Leverage is the ridge leverage score [H(H + λI)⁻¹]_jj, λ the mean diagonal of H (MoDeGPT, arXiv 2408.09632).
	Leverage Method = "leverage"
	// Taylor is the first-order loss change of arXiv 2305.11627: Σ|w·∂loss/∂w| over all weights that a unit owns.
	Taylor Method = "taylor"
)

// Unit is a kind of unit.
type Unit int

// The units: of an MLP its channels, of an attention block its query heads, its KV groups or the channels inside its heads.
// In-head channels of the heads of one group are one unit, that of channel c of group g being g·HeadDim + c; OBS does not rank
// them.
const (
	Channels Unit = iota
	Heads
	Groups
	HeadChannels
)

// Inputs are the statistics of the inputs of a matrix, averaged over tokens.
type Inputs struct {
	N    int
	Gram []float64 // [N, N] xxᵀ
	Mean []float64 // [N]
	Var  []float64 // [N]
}

// Matrix is a weight matrix, [Out, In] row-major, with the gradient of the loss where Taylor needs it.
type Matrix struct {
	Out, In  int
	Data     []float32
	Gradient []float32 // same shape, or nil
}

// Block is one module of one layer with its statistics.
type Block struct {
	Name    string // for errors, such as "layer 3 mlp"
	Module  subnet.Module
	HeadDim int // attention only
	Layer   subnet.LayerGeometry
	Inner   []Matrix       // units own rows of these: W_Q, W_K, W_V, or W_G (where there is one) and W_U
	Output  Matrix         // units own columns of this: W_O, or W_D
	In      Inputs         // of the inner matrices
	Mid     Inputs         // of the output matrix
	Algebra linalg.Algebra // inverts second moments; nil is linalg.CPU
}

// Count returns how many units of a kind the block has.
func (b *Block) Count(u Unit) int {
	switch {
	case u == Channels && b.Module == subnet.MLP:
		return b.Layer.FFN
	case u == Heads && b.Module == subnet.Attention:
		return b.Layer.Heads
	case u == Groups && b.Module == subnet.Attention:
		return b.Layer.KVHeads
	case u == HeadChannels && b.Module == subnet.Attention:
		return b.Layer.KVHeads * b.HeadDim
	}
	return 0
}

// columns returns how many columns of the output matrix each unit owns.
func (b *Block) columns(u Unit) int {
	switch u {
	case Heads:
		return b.HeadDim
	case Groups:
		return b.HeadDim * b.Layer.HeadsPerGroup()
	case HeadChannels:
		return b.Layer.HeadsPerGroup()
	default: // nothing for the others
	}
	return 1
}

// column returns the c-th column of the output matrix that unit i owns.
func (b *Block) column(u Unit, i, c int) int {
	if u == HeadChannels {
		group, channel := i/b.HeadDim, i%b.HeadDim
		return (group*b.Layer.HeadsPerGroup()+c)*b.HeadDim + channel
	}
	return i*b.columns(u) + c
}

// Columns lists the columns of the output matrix that units own, in the order of the units.
func (b *Block) Columns(u Unit, units []int) []int {
	width := b.columns(u)
	out := make([]int, 0, len(units)*width)
	for _, i := range units {
		for c := range width {
			out = append(out, b.column(u, i, c))
		}
	}
	return out
}

// owner returns the unit that owns row r of inner matrix m. A key or value head belongs to its group; query heads share it, and
// it counts for the first of them.
func (b *Block) owner(u Unit, m Matrix, r int) int {
	if u == Channels {
		return r
	}
	head := r / b.HeadDim
	perGroup := b.Layer.HeadsPerGroup()
	isQuery := m.Out == b.Layer.Heads*b.HeadDim
	switch {
	case u == HeadChannels && isQuery:
		return head/perGroup*b.HeadDim + r%b.HeadDim
	case u == HeadChannels:
		return r
	case u == Groups && isQuery:
		return head / perGroup
	case u == Heads && !isQuery:
		return head * perGroup
	}
	return head
}

// check returns an error for inconsistent shapes and missing statistics.
func (b *Block) check(u Unit, n needs) error {
	count := b.Count(u)
	if count == 0 {
		return fmt.Errorf("no units of this kind: %w", ErrMethod)
	}
	if want := count * b.columns(u); b.Output.In != want || len(b.Output.Data) != b.Output.Out*want {
		return fmt.Errorf("output matrix is %d×%d with %d values, its units own %d columns", b.Output.Out, b.Output.In, len(b.Output.Data), want)
	}
	if n&(needMid|needMidDiagonal) != 0 {
		if err := b.Mid.check("of the output matrix", b.Output.In); err != nil {
			return err
		}
	}
	if n&needVar != 0 && len(b.Mid.Var) != b.Output.In {
		return fmt.Errorf("variances: %w", ErrNeeds)
	}
	if n&needInner == 0 {
		return nil
	}
	if len(b.Inner) == 0 {
		return fmt.Errorf("inner matrices: %w", ErrNeeds)
	}
	for _, m := range b.Inner {
		if len(m.Data) != m.Out*m.In {
			return fmt.Errorf("inner matrix %d×%d has %d values", m.Out, m.In, len(m.Data))
		}
		if n&needIn == 0 {
			continue
		}
		if err := b.In.check("of the inner matrices", m.In); err != nil {
			return err
		}
	}
	return nil
}

func (in Inputs) check(what string, n int) error {
	if in.N != n || len(in.Gram) != n*n {
		return fmt.Errorf("second moments %s: %w", what, ErrNeeds)
	}
	if err := linalg.CheckFinite(in.Gram); err != nil {
		return fmt.Errorf("second moments %s: %w", what, err)
	}
	return nil
}
