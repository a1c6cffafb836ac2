package decoder

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

func int32Shape(dims ...int) shapes.Shape { return shapes.Make(dtypes.Int32, dims...) }
