package explorertest

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// A Subject is a backend under [Contract].
type Subject struct {
	Backend     explorer.Backend
	Model       string               // path of a model that it opens and runs
	Missing     string               // path of a file that is not there
	Calibration explorer.Calibration // text enough for every method
	Evaluations int                  // candidates that a search scores in little time
}

// Contract checks what package explorer relies on in every backend: subject is called once for each part.
func Contract(t *testing.T, subject func(*testing.T) Subject) {
	for _, part := range []struct {
		name string
		run  func(contract, *testing.T)
	}{
		{"open", contract.open}, {"statistics", contract.statistics}, {"cut", contract.cut}, {"quantize", contract.quantize}, {"refit", contract.refit}, {"tune", contract.tune}, {"score", contract.score}, {"vocabulary", contract.vocabulary},
		{"files", contract.files}, {"search", contract.search}, {"search orders", contract.searchOrders}, {"search paused", contract.searchPaused},
		{"search cancelled", contract.searchCancelled}, {"search refused", contract.searchRefused}, {"chat", contract.chat}, {"cancelled", contract.cancelled},
	} {
		t.Run(part.name, func(t *testing.T) {
			c := contract{Subject: subject(t)}
			m, err := c.Backend.Open(t.Context(), c.Model)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			})
			c.m = m
			part.run(c, t)
		})
	}
}

// contract is a subject with its model open.
type contract struct {
	Subject
	m explorer.Model
}

func (c contract) dense() subnet.Masks { return subnet.Dense(c.m.Info().Geometry) }

// without is the dense model but for the MLP of a layer.
func (c contract) without(layer int) subnet.Masks {
	d := c.dense()
	l := d.Layer(layer)
	l.Channels = subnet.Empty(l.Channels.N())
	return d.With(layer, l)
}

func (c contract) open(t *testing.T) {
	info := c.m.Info()
	if info.Path != c.Model || info.Name == "" || info.Fingerprint == "" || info.Bytes <= 0 || info.Context <= 0 || info.Vocab <= 0 {
		t.Errorf("info %+v", info)
	}
	if err := info.Geometry.Validate(); err != nil || info.Layers != len(info.Geometry.Layers) || info.BlockParams != info.Geometry.BlockParams() {
		t.Errorf("%d layers, %d block parameters, %v", info.Layers, info.BlockParams, err)
	}
	again, err := c.Backend.Open(t.Context(), c.Model)
	if err != nil {
		t.Fatal(err)
	}
	if other := again.Info().Fingerprint; other != info.Fingerprint {
		t.Errorf("fingerprints %s and %s", info.Fingerprint, other)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Backend.Open(t.Context(), c.Missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing model: %v", err)
	}
	if sum, err := c.m.SHA256(t.Context()); err != nil || sum == "" {
		t.Errorf("hash %q, %v", sum, err)
	}
}

func (c contract) statistics(t *testing.T) {
	if _, ok := c.m.Predict(explorer.Statistics{}, c.dense()); ok {
		t.Error("a prediction before statistics")
	}
	norms, err := c.m.Norms(t.Context())
	if err != nil || len(norms) != len(c.m.Info().Geometry.Layers) {
		t.Fatalf("norms of %d layers, %v", len(norms), err)
	}
	for i, l := range c.m.Info().Geometry.Layers {
		if len(norms[i].Channels) != l.FFN || len(norms[i].Heads) != l.Heads {
			t.Errorf("layer %d: norms of %d channels, %d heads", i, len(norms[i].Channels), len(norms[i].Heads))
		}
	}
	dir := t.TempDir()
	w := watch(t)
	s, err := c.m.Gather(t.Context(), explorer.GatherStatistics{Calibration: c.Calibration}, dir, w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	g := c.m.Info().Geometry
	if !s.Ready || s.Tokens <= 0 || s.DenseNLL <= 0 || s.Text.SHA256 == "" || len(s.Importance) != len(g.Layers) || len(s.Sensitivity) != len(g.Layers) {
		t.Fatalf("statistics of %d tokens, %d and %d layers", s.Tokens, len(s.Importance), len(s.Sensitivity))
	}
	for i, l := range g.Layers {
		if len(s.Importance[i].Channels) != l.FFN || len(s.Importance[i].Heads) != l.Heads {
			t.Errorf("layer %d: importance of %d channels, %d heads", i, len(s.Importance[i].Channels), len(s.Importance[i].Heads))
		}
		if v := s.Sensitivity[i]; math.IsNaN(v.Attention) || math.IsNaN(v.MLP) {
			t.Errorf("layer %d: sensitivity %+v", i, v)
		}
	}
	if loss, ok := c.m.Predict(s, c.dense()); !ok || math.Abs(loss) > 1e-9 {
		t.Errorf("the dense model is predicted to lose %g, %v", loss, ok)
	}
	one, _ := c.m.Predict(s, c.without(0))
	if again, ok := c.m.Predict(s, c.without(0)); !ok || one != again || math.IsNaN(one) {
		t.Errorf("predicted loss %g, then %g", one, again)
	}
	if _, err := draft.Apply(c.dense(), s.Importance, draft.KeepTop{Layers: []int{0}, Module: draft.MLP, Count: 1}); err != nil {
		t.Error(err)
	}
	again, err := c.m.Gather(t.Context(), explorer.GatherStatistics{Calibration: c.Calibration}, dir, watch(t))
	if err != nil || !slices.Equal(again.Importance[0].Channels, s.Importance[0].Channels) {
		t.Errorf("gathered again, importance differs (%v)", err)
	}
}

func (c contract) cut(t *testing.T) {
	w := watch(t)
	ask := explorer.Cut{Target: 0.7, Seed: 1, Calibration: c.Calibration}
	made, err := c.m.Cut(t.Context(), ask, w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	if err := made.Subnet.Masks.Validate(); err != nil {
		t.Error(err)
	}
	if r := made.Subnet.Masks.Size().Ratio; r > 0.71 || r < 0.5 {
		t.Errorf("ratio %g, asked for 0.7", r)
	}
	m := made.Method
	if m.Preset == "" || m.Target != 0.7 || m.Reform == "" || m.Text.SHA256 == "" || m.Windows <= 0 || m.Seq <= 0 || m.Backend == "" {
		t.Errorf("method %+v", m)
	}
	fitted := len(made.Subnet.Refit) == c.m.Info().Layers
	if fitted == (made.Method.Kept != "") || !fitted && !(made.Rejected > made.After && made.After == made.Before) {
		t.Errorf("%d layers of weights, kept %q, perplexity %g instead of %g", len(made.Subnet.Refit), made.Method.Kept, made.After, made.Rejected)
	}
	if made.Before < 0 || made.After < 0 {
		t.Errorf("%d layers of weights, perplexity %g and %g", len(made.Subnet.Refit), made.Before, made.After)
	}
	again, err := c.m.Cut(t.Context(), ask, watch(t))
	if err != nil || !again.Subnet.Masks.Equal(made.Subnet.Masks) {
		t.Errorf("the same cut chose other masks (%v)", err)
	}
	for name, bad := range map[string]explorer.Cut{
		"target 0":   {Calibration: c.Calibration},
		"target 1.5": {Target: 1.5, Calibration: c.Calibration},
		"preset":     {Target: 0.7, Preset: "none such", Calibration: c.Calibration},
		"reform":     {Target: 0.7, Reform: explorer.ReformOptions{Method: "none such"}, Calibration: c.Calibration},
	} {
		if _, err := c.m.Cut(t.Context(), bad, watch(t)); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ask.Calibration.Text = c.Missing
	if _, err := c.m.Cut(t.Context(), ask, watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a missing text: %v", err)
	}
	c.mix(t, ask)
}

// mix cuts on two texts.
func (c contract) mix(t *testing.T, ask explorer.Cut) {
	one, two := filepath.Join(t.TempDir(), "one.txt"), filepath.Join(t.TempDir(), "two.md")
	for path, line := range map[string]string{one: "The lathe turns a block of wood.\n", two: "What the blade takes away was never needed.\n"} {
		if err := os.WriteFile(path, []byte(strings.Repeat(line, 200)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask.Calibration.Text = ""
	ask.Calibration.Mix = []explorer.MixText{{Name: "first", Path: one, Share: 0.75}, {Name: "second", Path: two}}
	made, err := c.m.Cut(t.Context(), ask, watch(t))
	if err != nil {
		t.Fatal(err)
	}
	m := made.Method
	if len(m.Mix) != 2 || m.Text.SHA256 == "" || m.Draw != explorer.DrawWhole {
		t.Fatalf("method %+v", m)
	}
	windows := 0
	for i, want := range []explorer.MixPart{{Name: "first", Text: "one.txt", Share: 0.75}, {Name: "second", Text: "two.md", Share: 0.25}} {
		got := m.Mix[i]
		windows += got.Windows
		if got.Name != want.Name || got.Text != want.Text || got.Share != want.Share || got.Windows == 0 || got.Bytes == 0 || got.SHA256 == "" {
			t.Errorf("part %+v, want %+v", got, want)
		}
	}
	if windows != m.Windows {
		t.Errorf("%d windows of the parts, %d of all", windows, m.Windows)
	}
	ask.Calibration.Mix[1].Path = c.Missing
	if _, err := c.m.Cut(t.Context(), ask, watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a text of the mix that is missing: %v", err)
	}
}

func (c contract) quantize(t *testing.T) {
	w := watch(t)
	ask := explorer.Quantize{Subnet: explorer.DenseID, Target: search.Target{Measure: search.Bytes, Value: 0.93 * float64(c.m.Info().Bytes)}, Calibration: c.Calibration}
	made, err := c.m.Quantize(t.Context(), gguf.Subnet{Masks: c.without(1)}, ask, t.TempDir(), w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	if !made.Subnet.Masks.Equal(c.without(1)) || made.Method.Typed == nil || made.Method.Goal == "" || made.Method.Text.SHA256 == "" {
		t.Errorf("other masks, or method %+v", made.Method)
	}
	if carried, err := c.m.Carry(t.Context(), made.Subnet, c.dense()); err != nil || len(carried.Types) != len(made.Subnet.Types) {
		t.Errorf("types were not carried to other masks (%v)", err)
	}
	ask.Target.Value = 1000
	if _, err := c.m.Quantize(t.Context(), gguf.Subnet{Masks: c.dense()}, ask, "", watch(t)); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), "smallest") {
		t.Errorf("1000 bytes: %v", err)
	}
}

func (c contract) refit(t *testing.T) {
	w := watch(t)
	made, err := c.m.Refit(t.Context(), c.without(1), explorer.Refit{Calibration: c.Calibration}, w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	if !made.Subnet.Masks.Equal(c.without(1)) || len(made.Subnet.Refit) != c.m.Info().Layers || made.Method.Reform == "" {
		t.Errorf("other masks, or weights of %d layers by %q", len(made.Subnet.Refit), made.Method.Reform)
	}
	text, mix, err := c.m.Identify(t.Context(), c.Calibration, watch(t))
	if err != nil || text.SHA256 != made.Method.Text.SHA256 || len(mix) != len(made.Method.Mix) {
		t.Errorf("the text is identified as %+v with %d parts (%v), the re-fit has %+v with %d", text, len(mix), err, made.Method.Text, len(made.Method.Mix))
	}
	lost := c.Calibration
	lost.Text, lost.Mix = c.Missing, nil
	if _, _, err := c.m.Identify(t.Context(), lost, watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a missing text: %v", err)
	}
	carried, err := c.m.Carry(t.Context(), made.Subnet, c.dense())
	if err != nil || !carried.Masks.Equal(c.dense()) {
		t.Errorf("carried to other masks (%v)", err)
	}
}

func (c contract) tune(t *testing.T) {
	ask := explorer.Tune{Calibration: c.Calibration, Tuning: explorer.Tuning{Steps: 3, Seed: 1}}
	ask.Calibration.Windows = 4
	w := watch(t)
	made, err := c.m.Tune(t.Context(), gguf.Subnet{Masks: c.without(1)}, ask, t.TempDir(), w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	tuned := made.Method.Tune
	if tuned == nil || tuned.Steps <= 0 || tuned.Before <= 0 || tuned.After > tuned.Before || len(tuned.Curve) == 0 || made.Method.Text.SHA256 == "" {
		t.Fatalf("method %+v, tuned %+v", made.Method, tuned)
	}
	if !made.Subnet.Masks.Equal(c.without(1)) {
		t.Error("the masks changed")
	}
	if tuned.Best > 0 && len(made.Subnet.Refit) != c.m.Info().Layers {
		t.Errorf("weights of %d layers", len(made.Subnet.Refit))
	}
	if tuned.Best > 0 {
		again := ask
		again.Tuning = explorer.Tuning{Steps: tuned.Of, Rate: tuned.Rate, Bias: &tuned.Bias, Rank: tuned.Rank, Seed: tuned.Seed, Until: tuned.Best, Marks: tuned.Marks}
		if tuned.Of == 0 { // the explorer records it
			again.Tuning.Steps = ask.Tuning.Steps
		}
		repeated, err := c.m.Tune(t.Context(), gguf.Subnet{Masks: c.without(1)}, again, "", watch(t))
		if err != nil || repeated.Method.Tune.Best != tuned.Best || repeated.Method.Tune.After != tuned.After {
			t.Errorf("repeated until step %d: %+v, %v", tuned.Best, repeated.Method.Tune, err)
		}
	}
	ask.Calibration.Text = c.Missing
	if _, err := c.m.Tune(t.Context(), gguf.Subnet{Masks: c.without(1)}, ask, "", watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a missing text: %v", err)
	}
}

func (c contract) score(t *testing.T) {
	r := explorer.ScoreRequest{Seq: 32, Windows: 2}
	for name, s := range map[string]gguf.Subnet{"dense": {Masks: c.dense()}, "cut": {Masks: c.without(0)}} {
		w := watch(t)
		got, err := c.m.Score(t.Context(), s, r, w)
		if err != nil {
			t.Fatal(err)
		}
		w.worked()
		k := got.Conditions
		if k.Seq != 32 || k.Windows != 2 || k.Tokens != 62 || k.Engine != explorer.EngineDecoder || k.Ratio == "" || k.Text.SHA256 == "" {
			t.Errorf("%s: conditions %+v", name, k)
		}
		if got.NLL <= 0 || math.Abs(got.Perplexity/math.Exp(got.NLL)-1) > 1e-9 {
			t.Errorf("%s: loss %g, perplexity %g", name, got.NLL, got.Perplexity)
		}
		again, err := c.m.Score(t.Context(), s, r, watch(t))
		if err != nil || again.NLL != got.NLL || again.Conditions != k {
			t.Errorf("%s: %g, then %g (%v)", name, got.NLL, again.NLL, err)
		}
	}
	r.Text = c.Missing
	if _, err := c.m.Score(t.Context(), gguf.Subnet{Masks: c.dense()}, r, watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a missing text: %v", err)
	}
}

func (c contract) files(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.gguf")
	w := watch(t)
	report, err := c.m.Write(t.Context(), gguf.Subnet{Masks: c.without(0)}, path, "", w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	if _, err := os.Stat(path); err != nil || report.Path != path || report.Bytes <= 0 {
		t.Errorf("report %+v, %v", report, err)
	}
	got, err := c.m.Read(t.Context(), path)
	if err != nil || !got.Masks.Equal(c.without(0)) {
		t.Errorf("read back other masks (%v)", err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign.gguf")
	if err := os.WriteFile(foreign, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.m.Read(t.Context(), foreign); !errors.Is(err, gguf.ErrFormat) {
		t.Errorf("a foreign file: %v", err)
	}
	if _, err := c.m.Read(t.Context(), c.Missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	never := filepath.Join(t.TempDir(), "never.gguf")
	if _, err := c.m.Write(stopped, gguf.Subnet{Masks: c.dense()}, never, "", watch(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled write: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(never)); err != nil || len(left) != 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

func (c contract) chat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.gguf")
	if _, err := c.m.Write(t.Context(), gguf.Subnet{Masks: c.without(0)}, path, "", watch(t)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{c.Model, path} {
		o := infer.Defaults(file)
		o.Context = 128
		loaded, err := c.m.Load(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		tokens := 0
		stats, err := loaded.Chat(t.Context(), []infer.Message{{Role: infer.User, Content: "Hello"}}, infer.Sampling{MaxTokens: 4, Seed: 1}, func(infer.Token) error {
			tokens++
			return nil
		})
		if err != nil || tokens != stats.Tokens || tokens > 4 || stats.PromptTokens == 0 {
			t.Errorf("%s: %d tokens, %+v (%v)", filepath.Base(file), tokens, stats, err)
		}
		if err := loaded.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.m.Load(t.Context(), infer.Defaults(c.Missing), nil); err == nil {
		t.Error("a missing file was loaded")
	}
}

func (c contract) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, run := range map[string]func() error{
		"gather": func() error {
			_, err := c.m.Gather(ctx, explorer.GatherStatistics{Calibration: c.Calibration}, "", watch(t))
			return err
		},
		"cut": func() error {
			_, err := c.m.Cut(ctx, explorer.Cut{Target: 0.7, Calibration: c.Calibration}, watch(t))
			return err
		},
		"refit": func() error {
			_, err := c.m.Refit(ctx, c.without(0), explorer.Refit{Calibration: c.Calibration}, watch(t))
			return err
		},
		"score": func() error {
			_, err := c.m.Score(ctx, gguf.Subnet{Masks: c.dense()}, explorer.ScoreRequest{Seq: 32, Windows: 1}, watch(t))
			return err
		},
		"search": func() error { _, err := c.m.Search(ctx, c.ask(), "", &orders{}, watch(t)); return err },
	} {
		if err := run(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
