package importance_test

import (
	"fmt"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// Two of four channels are equal. OBS drops one of them first, since a larger weight of the other replaces it; by magnitude
// both are among the largest.
func Example() {
	b := &importance.Block{
		Name: "layer 0 mlp", Module: subnet.MLP, Layer: subnet.LayerGeometry{FFN: 4},
		Inner:  []importance.Matrix{{Out: 4, In: 1, Data: []float32{1, 1, 1, 1}}},
		Output: importance.Matrix{Out: 1, In: 4, Data: []float32{3, 3, 1, 2}},
		Mid: importance.Inputs{N: 4, Gram: []float64{
			1, 1, 0, 0,
			1, 1, 0, 0,
			0, 0, 1, 0,
			0, 0, 0, 1,
		}},
	}
	for _, m := range []importance.Method{importance.Magnitude, importance.OBS} {
		r, err := importance.Rank(m, b, importance.Channels, importance.Options{Ridge: 1e-6, Step: 1})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(m, "keeps", r.Keep(3))
	}
	// Output:
	// magnitude keeps 0-1,3
	// obs keeps 1-3
}
