package space

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// smallLevels has the levels dense, half and nothing for every module.
func smallLevels() *Levels {
	g := small()
	l := &Levels{Geometry: g, Key: "test"}
	for i, lg := range g.Layers {
		var attention, mlp Ladder
		for step, share := range []int{2, 1, 0} {
			m := subnet.Layer{Heads: subnet.Range(lg.Heads, 0, lg.Heads*share/2), Channels: subnet.Range(lg.FFN, 0, lg.FFN*share/2)}
			a, f := m.ModuleParams(g, i)
			attention = append(attention, Level{Mask: m, Params: a, Loss: float64(step)})
			mlp = append(mlp, Level{Mask: m, Params: f, Loss: 0.1 * float64(step)})
		}
		l.Attention, l.MLP = append(l.Attention, attention), append(l.MLP, mlp)
	}
	return l
}

func TestLevels(t *testing.T) {
	l := smallLevels()
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	dense, err := l.Masks(l.Dense())
	if err != nil || !dense.Equal(subnet.Dense(l.Geometry)) {
		t.Errorf("dense choice: %v", err)
	}
	c := Choice{0, 1, 1, 2}
	m, err := l.Masks(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Params(c), m.BlockParams(); got != want {
		t.Errorf("%d parameters, its masks keep %d", got, want)
	}
	if got := l.Loss(c); math.Abs(got-1.3) > 1e-12 {
		t.Errorf("loss %v", got)
	}
	if got := l.Nearest(m); !got.Equal(c) {
		t.Errorf("nearest choice %v, want %v", got, c)
	}
	if got := l.Smallest(); !got.Equal(Choice{2, 2, 2, 2}) {
		t.Errorf("smallest %v", got)
	}
	for _, bad := range []Choice{{0, 0, 0}, {0, 0, 0, 3}, {-1, 0, 0, 0}, l.Smallest()} {
		if _, err := l.Masks(bad); !errors.Is(err, subnet.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestLevelsValidate(t *testing.T) {
	for want, change := range map[string]func(l *Levels){
		"layer 1: mlp level 1: 7 parameters":                       func(l *Levels) { l.MLP[1][1].Params = 7 },
		"layer 0: attention level 2 is not smaller than level 1":   func(l *Levels) { l.Attention[0][2] = l.Attention[0][1] },
		"layer 0: attention level 0 is not dense":                  func(l *Levels) { l.Attention[0] = l.Attention[0][1:] },
		"layer 0: mlp level 2: predicted loss is NaN":              func(l *Levels) { l.MLP[0][2].Loss = math.NaN() },
		"layer 1: mlp has 0 levels":                                func(l *Levels) { l.MLP[1] = nil },
		"layer 1: mlp level 0: mask over 64 MLP channels":          func(l *Levels) { l.MLP[1] = l.MLP[0] },
		"ladders of 2 attention and 1 MLP blocks, the model has 2": func(l *Levels) { l.MLP = l.MLP[:1] },
	} {
		l := smallLevels()
		change(l)
		if err := l.Validate(); !errors.Is(err, subnet.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
