package gguf

import (
	"context"
	"errors"

	"github.com/lathe-llm/lathe/search/mask"
)

// Refit holds the re-fitted weights of one layer. A nil matrix means the original columns.
type Refit struct {
	// WO is [hidden, kept attention channels], the columns in the order of [mask.Masks.OColumns].
	WO []float32
	// WD is [hidden, kept MLP channels], the columns in rising order.
	WD []float32
	// BO and BD are biases [hidden] on the output of attention and of the MLP, nil for none.
	BO, BD []float32
}

// Subnet is what [WriteSubnet] writes: the units kept and, where they were re-fitted, the weights that changed.
type Subnet struct {
	Masks mask.Masks
	// Refit has one element per layer of the dense model, or is nil when nothing was re-fitted.
	Refit []Refit
	// Provenance is stored under general.lathe.KEY; values are of the types that [KV.Set] takes.
	Provenance map[string]any
}

// WriteOptions says how [WriteSubnet] stores a subnet.
type WriteOptions struct {
	// Type names the type of the matrices (F32, F16, Q8_0, Q4_0, Q4_1); "" keeps the type each has in the source.
	Type string
	// Zeroed writes the dense model's shapes and architecture with zeros where units were dropped: the same function, not smaller.
	Zeroed bool
	// Progress is called now and then with the bytes of tensors written so far and in total; nil for none.
	Progress func(done, total int64)
}

// Report says what [WriteSubnet] wrote.
type Report struct {
	Path string `json:"path"`
	// Arch is the architecture that the file names.
	Arch string `json:"architecture"`
	// Bytes is the size of the file, TensorBytes that of its tensors without padding, SourceBytes the size of the source file.
	Bytes       int64 `json:"bytes"`
	TensorBytes int64 `json:"tensor_bytes"`
	SourceBytes int64 `json:"source_bytes"`
	// ByType splits TensorBytes by the name of the type.
	ByType map[string]int64 `json:"bytes_by_type"`
	// Fallbacks are the tensors stored in another type than asked for.
	Fallbacks []Fallback `json:"fallbacks,omitempty"`
	// CompactParams counts the parameters of the block matrices that dropped units took with them; ZeroedParams those of dropped
	// units that the file still holds as zeros. Zeroed lists the latter.
	CompactParams int64        `json:"compact_params"`
	ZeroedParams  int64        `json:"zeroed_params"`
	Zeroed        []ZeroedUnit `json:"zeroed,omitempty"`
}

// Fallback is a tensor whose rows did not fit the blocks of the type asked for.
type Fallback struct {
	Tensor string `json:"tensor"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Reason string `json:"reason"`
}

// ZeroedUnit is something dropped that the format can hold only as zeros.
type ZeroedUnit struct {
	// Layer is the index in the dense model.
	Layer int `json:"layer"`
	// What names the units, Why the rule of the format that keeps them.
	What string `json:"what"`
	Why  string `json:"why"`
	// Params counts the zeros.
	Params int64 `json:"params"`
}

// WriteSubnet writes to dst the part of the model src that s keeps. The file appears whole or not at all.
func WriteSubnet(ctx context.Context, src *File, dst string, s Subnet, o WriteOptions) (Report, error) {
	return Report{}, errors.ErrUnsupported
}
