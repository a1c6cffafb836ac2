package explorer

import (
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Part names what of a layer a mutation concerns.
type Part string

// The parts of a layer.
const (
	Attention Part = "attention"
	MLP       Part = "mlp"
	Whole     Part = "layer"
)

// A Mutation is one change of the masks in work, as a value: applied by [Apply], written to the edit log and replayed.
// The types below are all there are.
type Mutation interface{ mutation() }

type (
	// SetChannels keeps exactly these MLP channels of a layer.
	SetChannels struct {
		Layer int        `json:"layer"`
		Set   subnet.Set `json:"set"`
	}
	// SetHeads keeps exactly these query heads of a layer.
	SetHeads struct {
		Layer int        `json:"layer"`
		Set   subnet.Set `json:"set"`
	}
	// SetHeadChannels keeps exactly these channels inside the heads of one KV group. VO selects rows of W_V and columns of
	// W_O; otherwise rows of W_Q and W_K.
	SetHeadChannels struct {
		Layer int        `json:"layer"`
		Group int        `json:"group"`
		VO    bool       `json:"vo"`
		Set   subnet.Set `json:"set"`
	}
	// DropAttention drops the attention block of layers.
	DropAttention struct {
		Layers []int `json:"layers"`
	}
	// DropMLP drops the MLP block of layers.
	DropMLP struct {
		Layers []int `json:"layers"`
	}
	// DropLayer drops whole layers.
	DropLayer struct {
		Layers []int `json:"layers"`
	}
	// Restore keeps every unit of a part of layers again.
	Restore struct {
		Layers []int `json:"layers"`
		Part   Part  `json:"part"`
	}
	// CopyLayer makes the masks of the target layers like those of one layer.
	CopyLayer struct {
		From int   `json:"from"`
		To   []int `json:"to"`
		Part Part  `json:"part"`
	}
	// KeepTop keeps the n most important units of a part of each layer: MLP channels, or KV groups for the attention.
	KeepTop struct {
		Layers []int `json:"layers"`
		Part   Part  `json:"part"`
		Count  int   `json:"count"`
	}
	// Equalise gives the layers the same number of units of a part, their mean, keeping the most important ones.
	Equalise struct {
		Layers []int `json:"layers"`
		Part   Part  `json:"part"`
	}
	// Invert swaps kept and dropped units of a part of layers.
	Invert struct {
		Layers []int `json:"layers"`
		Part   Part  `json:"part"`
	}
	// SetMasks replaces all masks at once.
	SetMasks struct {
		Masks subnet.Masks `json:"masks"`
	}
)

func (SetChannels) mutation()     {}
func (SetHeads) mutation()        {}
func (SetHeadChannels) mutation() {}
func (DropAttention) mutation()   {}
func (DropMLP) mutation()         {}
func (DropLayer) mutation()       {}
func (Restore) mutation()         {}
func (CopyLayer) mutation()       {}
func (KeepTop) mutation()         {}
func (Equalise) mutation()        {}
func (Invert) mutation()          {}
func (SetMasks) mutation()        {}
