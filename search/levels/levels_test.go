package levels_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/space"
)

// tiny loads a random model on the Go backend.
func tiny(t *testing.T) *decoder.Model {
	t.Helper()
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	m, err := decoder.Load(t.Context(), be, gguftest.Open(t, gguftest.Tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func texts(count, tokens, vocab int) [][]int32 {
	rng := rand.New(rand.NewPCG(1, 1))
	out := make([][]int32, count)
	for i := range out {
		for range tokens {
			out[i] = append(out[i], int32(rng.IntN(vocab)))
		}
	}
	return out
}

var options = levels.Options{Steps: 4, Granularity: 8, Model: "tiny", Text: "random"}

func build(t *testing.T, m *decoder.Model, dir string, o levels.Options) *levels.Store {
	t.Helper()
	s, err := levels.Build(t.Context(), m, texts(3, 48, m.Geometry().Vocab), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// middle returns the choice of the middle level of every module.
func middle(l *space.Levels) space.Choice {
	c := l.Dense()
	for s := range c {
		c[s] = int16(len(l.Ladder(s)) / 2)
	}
	return c
}

func TestBuild(t *testing.T) {
	m := tiny(t)
	s := build(t, m, t.TempDir(), options)
	l := s.Levels()
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	for slot := range l.Slots() {
		ladder := l.Ladder(slot)
		want := 5
		if subnet.Module(slot%subnet.Modules) == subnet.Attention {
			want = m.Geometry().Layers[0].KVHeads + 1
		}
		if len(ladder) != want || ladder[0].Loss != 0 || ladder[len(ladder)-1].Params != 0 || ladder[len(ladder)-1].Loss != 1 {
			t.Errorf("slot %d: %d levels, want %d: %+v", slot, len(ladder), want, ladder)
		}
		for i := 1; i < len(ladder); i++ {
			if ladder[i].Loss <= ladder[i-1].Loss {
				t.Errorf("slot %d: level %d loses %v, the one before %v", slot, i, ladder[i].Loss, ladder[i-1].Loss)
			}
		}
	}
	// Re-fitted levels are closer to the dense model than masks alone.
	text := texts(3, 48, m.Geometry().Vocab)
	distance := func(spec gguf.Subnet) float64 {
		sub, err := m.Subnet(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		sum := 0.0
		for _, w := range text {
			a, err := m.Logits(t.Context(), sub, w)
			if err != nil {
				t.Fatal(err)
			}
			dense := m.Dense()
			b, err := m.Logits(t.Context(), dense, w)
			dense.Close()
			if err != nil {
				t.Fatal(err)
			}
			for i := range a {
				d := float64(a[i] - b[i])
				sum += d * d
			}
		}
		return sum
	}
	spec, err := s.Subnet(middle(l), nil)
	if err != nil {
		t.Fatal(err)
	}
	if with, without := distance(spec), distance(gguf.Subnet{Masks: spec.Masks}); with >= without {
		t.Errorf("the logits are %v off with the re-fit, %v without", with, without)
	}
	factor := make([]float64, l.Slots())
	factor[1] = 2
	s.SetLosses(factor)
	if l.Ladder(1)[4].Loss != 2 || l.Ladder(0)[1].Loss != 0 || s.Lost(1, 4) != 1 {
		t.Errorf("losses are %v and %v", l.Ladder(1)[4].Loss, l.Ladder(0)[1].Loss)
	}
}

// TestResume interrupts a build, damages a file, and gets the same levels.
func TestResume(t *testing.T) {
	m := tiny(t)
	whole := build(t, m, t.TempDir(), options)
	if p := whole.Pace(); p.Window <= 0 || p.Fixed <= 0 {
		t.Errorf("pace %v", p)
	}
	dir := t.TempDir()
	o := options
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(e levels.Event) {
		if e.Done == 2 {
			cancel()
		}
	}
	if _, err := levels.Build(ctx, m, texts(3, 48, m.Geometry().Vocab), dir, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	var reused, made int
	o.Progress = func(e levels.Event) {
		if e.Reused {
			reused++
		} else {
			made++
		}
	}
	check := func(s *levels.Store, wantReused, wantMade int) {
		t.Helper()
		if s.Pace() != (levels.Pace{}) {
			t.Errorf("pace %v though some levels were reused", s.Pace())
		}
		if reused != wantReused || made != wantMade {
			t.Errorf("%d reused and %d made, want %d and %d", reused, made, wantReused, wantMade)
		}
		reused, made = 0, 0
		for slot := range s.Levels().Slots() {
			for i, level := range s.Levels().Ladder(slot) {
				want := whole.Levels().Ladder(slot)[i]
				if level.Loss != want.Loss || !level.Mask.Equal(want.Mask) {
					t.Fatalf("slot %d: level %d is another", slot, i)
				}
				var a, b gguf.Refit
				if err := errors.Join(s.RefitModule(&a, slot, i), whole.RefitModule(&b, slot, i)); err != nil {
					t.Fatal(err)
				}
				for k := range b.WD {
					if a.WD[k] != b.WD[k] {
						t.Fatalf("slot %d: level %d has other weights", slot, i)
					}
				}
			}
		}
	}
	slots := whole.Levels().Slots()
	check(build(t, m, dir, o), 2, slots-2)
	check(build(t, m, dir, o), 1, 0) // all there: reported at once
	files, err := filepath.Glob(filepath.Join(dir, "*.levels"))
	if err != nil || len(files) != slots {
		t.Fatalf("%d files, %v", len(files), err)
	}
	data, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-3] ^= 1
	if err := os.WriteFile(files[1], data, 0o600); err != nil {
		t.Fatal(err)
	}
	check(build(t, m, dir, o), slots-1, 1)
	// Building other levels removes these, and the remains of a killed write.
	if err := os.WriteFile(filepath.Join(dir, "x.levels.123"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Lambda = 0.3
	if other := build(t, m, dir, o); other.Levels().Key == whole.Levels().Key {
		t.Error("other options have the same key")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != slots {
		t.Errorf("%d files remain", len(files))
	}
}

func TestBuildRefuses(t *testing.T) {
	m := tiny(t)
	if _, err := levels.Build(t.Context(), m, nil, t.TempDir(), options); !errors.Is(err, levels.ErrText) {
		t.Errorf("no text: %v", err)
	}
	o := options
	o.MaxBytes = 10
	if _, err := levels.Build(t.Context(), m, texts(1, 8, 16), t.TempDir(), o); !errors.Is(err, levels.ErrSpace) {
		t.Errorf("no disk: %v", err)
	}
}
