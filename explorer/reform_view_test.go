package explorer

import (
	"bytes"
	"testing"
)

func FuzzReadReform(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Model":"m","Reform":{"Layers":[{"Attention":{"Layer":0,"Kept":3,"Of":9}},{"MLP":{"Layer":1,"Kept":2,"Of":4,"Curve":[1,0.5]}}]}}`))
	f.Add([]byte(`{"Version":2}`))
	f.Add([]byte(`{"Version":1,"Model":"m","Reform":{"Layers":[{},{},{}]}}`))
	f.Add([]byte(`{"Version":1,"Model":"m","Reform":{"Layers":[{"MLP":{"Layer":7}},{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readReform(bytes.NewReader(data), ModelInfo{Fingerprint: "m", Layers: 2})
		if err != nil {
			return
		}
		if n := len(r.Layers); n != 0 && n != 2 {
			t.Fatalf("%d layers", n)
		}
		for i, l := range r.Layers {
			for _, b := range []*LayerProgress{l.Attention, l.MLP} {
				if b != nil && (b.Layer != i || b.Kept < 0 || b.Kept > b.Of) {
					t.Fatalf("layer %d: %+v", i, b)
				}
			}
		}
	})
}
