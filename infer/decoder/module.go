package decoder

import (
	"context"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// OutputInputs computes the inputs of the output matrix of a module, as AttentionInputs or MLPInputs does.
func (m *Model) OutputInputs(ctx context.Context, layer int, module subnet.Module, s *Subnet, st *States) (*Inputs, error) {
	if module == subnet.Attention {
		return m.AttentionInputs(ctx, layer, s, st)
	}
	return m.MLPInputs(ctx, layer, s, st)
}

// AddOutput passes st through a module, as AddAttention or AddMLP does.
func (m *Model) AddOutput(ctx context.Context, layer int, module subnet.Module, s *Subnet, in *Inputs, st *States) error {
	if module == subnet.Attention {
		return m.AddAttention(ctx, layer, s, in, st)
	}
	return m.AddMLP(ctx, layer, s, in, st)
}

// OutputMatrix returns the name, for Weights, of a module's output matrix.
func (m *Model) OutputMatrix(module subnet.Module) string {
	if module == subnet.Attention {
		return "o"
	}
	return "down"
}

// InnerMatrices returns the names, for Weights, of the matrices of a module before its output matrix.
func (m *Model) InnerMatrices(module subnet.Module) []string {
	switch {
	case module == subnet.Attention:
		return []string{"q", "k", "v"}
	case m.config.Ungated:
		return []string{"up"}
	}
	return []string{"gate", "up"}
}
