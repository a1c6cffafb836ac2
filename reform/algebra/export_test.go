package algebra

import (
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// Whole is the algebra of a device that computes every operation, however small.
func Whole(dev *decoder.Device) linalg.Algebra { return device{dev: dev} }
