package subnet

// Module names one of the two blocks of a layer.
type Module uint8

// The modules, in the order in which a layer runs them.
const (
	Attention Module = iota
	MLP
)

// Modules is how many modules a layer has.
const Modules = 2

// String returns "attention" or "mlp".
func (m Module) String() string {
	if m == Attention {
		return "attention"
	}
	return "mlp"
}
