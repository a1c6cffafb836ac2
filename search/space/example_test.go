package space_test

import (
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// model is a small model: two layers of four heads in two KV groups, and 64 MLP channels.
func model() *subnet.Geometry {
	l := subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 64}
	return &subnet.Geometry{Arch: "llama", Hidden: 32, Vocab: 100, HeadDim: 8, Layers: []subnet.LayerGeometry{l, l}}
}

// A choice selects one of the prepared levels of each module.
func ExampleLevels() {
	g := model()
	levels := &space.Levels{Geometry: g}
	for layer, lg := range g.Layers {
		var attention, mlp space.Ladder
		for _, kept := range []int{4, 2, 0} { // quarters
			mask := subnet.Layer{Heads: subnet.Range(lg.Heads, 0, kept*lg.Heads/4), Channels: subnet.Range(lg.FFN, 0, kept*lg.FFN/4)}
			a, m := mask.ModuleParams(g, layer)
			attention = append(attention, space.Level{Mask: mask, Params: a})
			mlp = append(mlp, space.Level{Mask: mask, Params: m})
		}
		levels.Attention, levels.MLP = append(levels.Attention, attention), append(levels.MLP, mlp)
	}
	if err := levels.Validate(); err != nil {
		log.Fatal(err)
	}
	masks, err := levels.Masks(space.Choice{0, 1, 1, 2}) // attention and MLP of layer 0, then of layer 1
	if err != nil {
		log.Fatal(err)
	}
	for i := range masks.Layers() {
		l := masks.Layer(i)
		fmt.Printf("layer %d: %d heads, %d channels\n", i, l.Heads.Len(), l.Channels.Len())
	}
	fmt.Printf("%d of %d parameters\n", masks.BlockParams(), g.BlockParams())
	// Output:
	// layer 0: 4 heads, 32 channels
	// layer 1: 2 heads, 0 channels
	// 7680 of 18432 parameters
}

// Mutations vary masks within the paper's search space.
func ExampleSpace_Mutate() {
	s := space.PaperSpace(model(), 0.8)
	dense := subnet.Dense(model())
	rng := rand.New(rand.NewPCG(1, 2))
	child := s.Mutate(rng, dense, dense, space.Mutation{Pm: 0.3, Ps: 1, Alpha: 0.8, Directed: true})
	fmt.Println("changed:", !child.Equal(dense))
	fmt.Println("in the space:", s.Contains(child))
	// Output:
	// changed: true
	// in the space: true
}
