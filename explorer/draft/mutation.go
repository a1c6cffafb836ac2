package draft

import (
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Module names what of a layer a mutation changes: one of its modules, or both.
type Module string

// The modules of a layer, and the whole of it.
const (
	Attention Module = "attention"
	MLP       Module = "mlp"
	Whole     Module = "layer"
)

// A Mutation is one change of masks, as a value. The types below are all there are.
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
	// Restore keeps every unit of a module of layers.
	Restore struct {
		Layers []int  `json:"layers"`
		Module Module `json:"part"`
	}
	// CopyLayer copies the masks of one layer to others.
	CopyLayer struct {
		From   int    `json:"from"`
		To     []int  `json:"to"`
		Module Module `json:"part"`
	}
	// KeepTop keeps the most important units of a module of each layer: MLP channels, or KV groups of attention.
	KeepTop struct {
		Layers []int  `json:"layers"`
		Module Module `json:"part"`
		Count  int    `json:"count"`
	}
	// Equalise keeps the same number of units in a module of each layer, the mean of what they have: the most important ones.
	Equalise struct {
		Layers []int  `json:"layers"`
		Module Module `json:"part"`
	}
	// Invert swaps kept and dropped units of a module of layers.
	Invert struct {
		Layers []int  `json:"layers"`
		Module Module `json:"part"`
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
