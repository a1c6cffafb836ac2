package subnet

// Module is one of the two blocks of a layer.
type Module uint8

// The modules, in the order in which a layer runs them.
const (
	Attention Module = iota
	MLP
)

// Modules is the number of modules in a layer.
const Modules = 2

// String returns "attention" or "mlp".
func (m Module) String() string {
	if m == Attention {
		return "attention"
	}
	return "mlp"
}

// OutputColumns returns how many columns the output matrix of a module has: W_O, or W_D.
func (g *Geometry) OutputColumns(layer int, m Module) int {
	if m == Attention {
		return g.Layers[layer].Heads * g.HeadDim
	}
	return g.Layers[layer].FFN
}

// OutputColumns lists the columns of the output matrix of a module that are kept, in dense order.
func (m Masks) OutputColumns(layer int, module Module) []int {
	if module == Attention {
		return m.OColumns(layer)
	}
	return m.layers[layer].Channels.Indices()
}
