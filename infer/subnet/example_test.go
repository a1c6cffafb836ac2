package subnet_test

import (
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Drop heads and channels of one layer and see what the subnet costs and what its file must hold.
func Example() {
	g := &subnet.Geometry{
		Arch: "llama", Hidden: 576, Vocab: 49152, HeadDim: 64, Tied: true,
		Layers: slices.Repeat([]subnet.LayerGeometry{{Heads: 9, KVHeads: 3, FFN: 1536}}, 30),
	}
	masks := subnet.Dense(g)
	layer := masks.Layer(5)
	layer.Heads = layer.Heads.Without(0, 1, 2, 3) // the first KV group and one head of the second
	layer.Channels = subnet.Range(1536, 0, 768)
	masks = masks.With(5, layer)

	fmt.Println(masks.LayerText(5))
	fmt.Println("heads in the file:", masks.Cut().Layers[5].Heads)
	size := masks.Size()
	fmt.Printf("inheriting ratio %.4f, %d parameters as zeros\n", size.Ratio, size.ZeroedParams)
	fmt.Printf("%.1f MB as Q8_0\n", float64(masks.GGUFBytes("Q8_0"))/1e6)
	// Output:
	// layer 5 heads=4-8/9 groups=3 mlp=0-767/1536
	// heads in the file: [4 5 -1 6 7 8]
	// inheriting ratio 0.9840, 73728 parameters as zeros
	// 141.3 MB as Q8_0
}
