package levels_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/space"
)

// typedGeometry is a model of two layers.
func typedGeometry() *subnet.Geometry {
	layer := subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 128}
	return &subnet.Geometry{Arch: "llama", Hidden: 64, HeadDim: 16, Vocab: 32, Layers: []subnet.LayerGeometry{layer, layer}}
}

// typedLevels are valid: each module dense, dense in smaller types, and empty.
func typedLevels(base *space.Levels) *levels.Typed {
	t := &levels.Typed{Base: base.Key, Source: map[string]string{"blk.0.ffn_down.weight": "F16"}}
	for slot := range base.Slots() {
		last := len(base.Ladder(slot)) - 1
		t.Modules = append(t.Modules, []levels.TypedLevel{{Bytes: 1000}, {Bytes: 500, Loss: 0.1, Types: map[string]string{"blk.0.ffn_down.weight": "Q8_0"}}, {Width: last, Loss: 1}})
	}
	t.Heads = []levels.TypedLevel{{Bytes: 4000}, {Bytes: 2000, Loss: 0.2, Types: map[string]string{"token_embd.weight": "Q4_0"}}}
	return t
}

// TestWithTypes makes levels that differ in types, and refuses files that do not describe such levels, naming the field.
func TestWithTypes(t *testing.T) {
	g := typedGeometry()
	base := levels.Bare(g, levels.Options{})
	l, err := levels.WithTypes(base, typedLevels(base))
	if err != nil {
		t.Fatal(err)
	}
	if l.Slots() != base.Slots()+1 || !l.Typed() || !strings.HasPrefix(l.Key, base.Key) || levels.BaseKey(strings.Repeat("a", 32)+"+x") != strings.Repeat("a", 32) {
		t.Errorf("%d slots, key %q", l.Slots(), l.Key)
	}
	c := l.Dense()
	c[1], c[len(c)-1] = 1, 1
	types := l.Types(c)
	if len(types) != 2 || types["blk.0.ffn_down.weight"] != subnet.Q8_0 || types["token_embd.weight"] != subnet.Q4_0 {
		t.Errorf("types %v", types)
	}
	if masks, err := l.Masks(c); err != nil || !masks.Equal(subnet.Dense(g)) {
		t.Errorf("masks: %v", err)
	}
	for name, change := range map[string]func(*levels.Typed){
		"other levels": func(t *levels.Typed) { t.Base = "other" },
		"width 99":     func(t *levels.Typed) { t.Modules[0][1].Width = 99 },
		"IQ99":         func(t *levels.Typed) { t.Modules[0][1].Types["blk.0.ffn_down.weight"] = "IQ99" },
		"not smaller":  func(t *levels.Typed) { t.Modules[0][1].Bytes = 2000 },
		"no heads":     func(t *levels.Typed) { t.Heads = nil },
		"vocab":        func(t *levels.Typed) { t.Heads[1].Vocab = "zz" },
	} {
		damaged := typedLevels(base)
		change(damaged)
		if _, err := levels.WithTypes(base, damaged); !errors.Is(err, levels.ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzWithTypes reads typed levels of any content: they are refused, or every choice of them has masks.
func FuzzWithTypes(f *testing.F) {
	base := levels.Bare(typedGeometry(), levels.Options{})
	valid, err := json.Marshal(typedLevels(base))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte(`{"base":"","modules":[[{"width":-1}]],"heads":[{}]}`))
	f.Add([]byte(`{"base":"","modules":[[{}],[{}],[{}],[{}]],"heads":[{"vocab":"1/32"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var typed levels.Typed
		if json.Unmarshal(data, &typed) != nil {
			return
		}
		l, err := levels.WithTypes(base, &typed)
		if err != nil {
			return
		}
		if _, err := l.Masks(l.Dense()); err != nil {
			t.Error(err)
		}
		l.Types(l.Smallest())
	})
}
