package explorertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// Backend is a fake explorer.Backend: it computes nothing, and the same each time. It keeps [Contract]. Its models have the shape of the default
// model: 30 layers of 9 heads in 3 KV groups and 1536 MLP channels.
type Backend struct {
	// Clock gives the times in results.
	Clock *Clock
	// Pace is called before every unit of work, named as the job's progress names it ("layers", "windows", "candidates",
	// "bytes"), and for chats as package fake does ("load", "prompt", "token"). It may block until ctx is done; an error
	// ends the work with it. nil does nothing.
	Pace func(ctx context.Context, unit string) error
	// Predicting is called before every prediction, which has no other way to take long; nil does nothing.
	Predicting func(subnet.Masks)
	// Refitting is called before every re-fit, that of a cut included, with what was asked for; nil does nothing.
	Refitting func(explorer.ReformOptions)
	// Says is the text that its models generate from; "" is package fake's.
	Says string
	// Weights makes cuts and re-fits return weights as large as real ones. Without it they return a bias in one layer.
	Weights bool
	// Worse makes every re-fit worse than the original weights.
	Worse bool
	// NoRuntime is why its models cannot be run; "" where they can.
	NoRuntime string
	// Busy is how many of its four processors other programs keep busy.
	Busy float64
	// Write is called before a file is written: by a search between generations for its checkpoint, by statistics and tuning for their
	// states, and by exports. nil writes nothing.
	Write func() error
	// Hashes are those of texts by the names of their files; the others are all alike.
	Hashes map[string]string
	// Missing are paths of models, texts and files that are not there.
	Missing []string
}

// New returns a backend with a clock of its own.
func New() *Backend { return &Backend{Clock: NewClock()} }

// Geometry is the shape of every model.
func Geometry() *subnet.Geometry {
	return &subnet.Geometry{
		Arch: "llama", Hidden: 576, Vocab: 49152, HeadDim: 64, Tied: true,
		Layers: slices.Repeat([]subnet.LayerGeometry{{Heads: 9, KVHeads: 3, FFN: 1536}}, 30),
	}
}

// bytesPerToken is how many bytes of text a token of the fake models is.
const bytesPerToken = 4.2

// denseNLL is the fake loss of the dense model, nats per token.
var denseNLL = math.Log(20.3)

// Open opens the model.
func (b *Backend) Open(ctx context.Context, path string) (explorer.Model, error) {
	if slices.Contains(b.Missing, path) {
		return nil, fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
	g := Geometry()
	size := subnet.Dense(g).Size()
	return &model{b: b, engine: fake.New(fake.Options{Text: b.Says, Gate: b.pace}), info: explorer.ModelInfo{
		Path: path, Name: "SmolLM2-135M-Instruct", Arch: "llama", FileType: sourceType, Bytes: 98 << 20,
		Params: size.DenseParams, BlockParams: size.DenseBlockParams, Layers: len(g.Layers), Hidden: g.Hidden, Context: 8192, Vocab: g.Vocab,
		Tied: true, ChatTemplate: true, Fingerprint: "0123456789abcdef0123456789abcdef", Geometry: g, Compute: "fake", Engine: "fake", NoRuntime: b.NoRuntime, Files: sizes{},
	}}, ctx.Err()
}

// sizes are those of the files that a model writes: matrices of one type, Q4_1 as in the source, and no metadata.
type sizes struct{}

func (sizes) Of(m subnet.Masks, _ gguf.Refitted, typ string) (gguf.FileSize, error) {
	bytes := m.GGUFBytes(cmp.Or(typ, sourceType))
	return gguf.FileSize{File: bytes, Tensors: bytes}, nil
}

// OfTypes is Of with types of matrices by the names of tensors.
func (sizes) OfTypes(m subnet.Masks, _ gguf.Refitted, types map[string]subnet.Type) (gguf.FileSize, error) {
	var bytes int64
	for _, t := range m.Cut().Tensors(m.Geometry()) {
		typ, ok := types[t.Name]
		if !ok {
			typ = subnet.Q4_1
		}
		bytes += t.Bytes(typ)
	}
	return gguf.FileSize{File: bytes, Tensors: bytes}, nil
}

const sourceType = "Q4_1"

// pace calls Pace, if it is set.
func (b *Backend) pace(ctx context.Context, unit string) error {
	if b.Pace == nil {
		return nil
	}
	return b.Pace(ctx, unit)
}

type model struct {
	b      *Backend
	engine *fake.Engine
	info   explorer.ModelInfo
}

func (m *model) Info() explorer.ModelInfo { return m.info }
func (m *model) Close() error             { return m.engine.Close() }

func (m *model) SHA256(ctx context.Context) (string, error) {
	return "00112233445566778899aabbccddeeff", ctx.Err()
}

// step paces and reports one unit of work.
func (m *model) step(ctx context.Context, mon explorer.Monitor, done, total int, unit, what string) error {
	if err := mon.Gate(ctx); err != nil {
		return err
	}
	if err := m.b.pace(ctx, unit); err != nil {
		return err
	}
	mon.Progress(float64(done), float64(total), unit, what)
	return ctx.Err()
}

// weight is the sensitivity of a module: larger at the ends of the model than in its middle, for attention than for an MLP.
func weight(layer, layers int, p draft.Module) float64 {
	x := 2*float64(layer)/float64(layers-1) - 1
	w := 0.012 + 0.05*x*x
	if p == draft.Attention {
		w *= 2.5
	}
	return w
}

// Loss is the fake rise of the loss that masks cause, nats per token.
func Loss(masks subnet.Masks) float64 {
	loss := 0.0
	for i, g := range masks.Geometry().Layers {
		l := masks.Layer(i)
		cut := func(kept, of int) float64 { return math.Pow(1-float64(kept)/float64(of), 2.5) }
		loss += weight(i, masks.Layers(), draft.Attention) * cut(l.Heads.Len(), g.Heads)
		loss += weight(i, masks.Layers(), draft.MLP) * cut(l.Channels.Len(), g.FFN)
	}
	return 8 * loss
}

func (m *model) Gather(ctx context.Context, c explorer.GatherStatistics, _ string, mon explorer.Monitor) (explorer.Statistics, error) {
	text, _, err := m.texts(c.Calibration)
	if err != nil {
		return explorer.Statistics{}, err
	}
	defer m.hire(c.Machines, mon)()
	s := explorer.Statistics{Ready: true, Text: text, Tokens: 8192, Layers: m.info.Layers, Gathered: m.b.Clock.Now(), DenseNLL: denseNLL}
	for i, g := range m.info.Geometry.Layers {
		if err := m.step(ctx, mon, i, m.info.Layers, "layers", fmt.Sprintf("layer %d", i)); err != nil {
			return explorer.Statistics{}, err
		}
		s.Importance = append(s.Importance, draft.Importance{Channels: scores(i, g.FFN), Heads: scores(i+1000, g.Heads)})
		s.Sensitivity = append(s.Sensitivity, explorer.Sensitivity{
			Attention: 8 * weight(i, m.info.Layers, draft.Attention), MLP: 8 * weight(i, m.info.Layers, draft.MLP),
		})
	}
	mon.Progress(float64(m.info.Layers), float64(m.info.Layers), "layers", "")
	return s, m.b.persist(ctx, mon, func() error { return nil })
}

// CheckTexts implements [explorer.Statistician].
func (m *model) CheckTexts(c explorer.Calibration) error {
	_, _, err := m.texts(c)
	return err
}

// Norms implements [explorer.Statistician].
func (m *model) Norms(ctx context.Context) ([]draft.Importance, error) {
	var out []draft.Importance
	for i, g := range m.info.Geometry.Layers {
		out = append(out, draft.Importance{Channels: scores(i+7, g.FFN), Heads: scores(i+1007, g.Heads)})
	}
	return out, ctx.Err()
}

// scores are n importances with the long tail real ones have.
func scores(seed, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		rank := (i*7919 + seed*104729) % n
		out[i] = math.Exp(-4*float64(rank)/float64(n)) * (1 + 0.1*math.Sin(float64(i+seed)))
	}
	return out
}

// text describes a text, which need not exist unless it is among the missing ones.
func (m *model) text(path string) (explorer.TextRef, error) {
	if path != "" && slices.Contains(m.b.Missing, path) {
		return explorer.TextRef{}, fmt.Errorf("%w: %s: %w", explorer.ErrText, path, os.ErrNotExist)
	}
	return explorer.TextRef{Path: cmp.Or(path, "wiki.utf8"), Bytes: 2 << 20, SHA256: cmp.Or(m.b.Hashes[filepath.Base(path)], "feedface")}, nil
}

// texts describes the texts of a calibration. The default one is a single text.
func (m *model) texts(c explorer.Calibration) (explorer.TextRef, []explorer.MixPart, error) {
	shares, err := c.Shares()
	if err != nil || len(c.Mix) == 0 {
		text, failed := m.text(c.Text)
		return text, nil, errors.Join(err, failed)
	}
	var mix []explorer.MixPart
	for i, t := range c.Mix {
		text, err := m.text(t.Path)
		if err != nil {
			return text, nil, err
		}
		part := explorer.MixPart{Name: t.Name, Share: shares[i], Windows: 8 / len(c.Mix), Bytes: text.Bytes, SHA256: text.SHA256}
		if t.Path != "" {
			part.Text = filepath.Base(t.Path)
		}
		mix = append(mix, part)
	}
	mix[0].Windows += 8 % len(c.Mix)
	return explorer.TextRef{Path: c.Texts(), Bytes: 4 << 20, SHA256: "feedfacefeed"}, mix, nil
}

func (m *model) Predict(s explorer.Statistics, masks subnet.Masks) (float64, bool) {
	if f := m.b.Predicting; f != nil {
		f(masks)
	}
	return 0.9 * Loss(masks), s.Ready
}

// Bound is a fifth of the prediction on both sides, for masks that drop whole modules.
func (m *model) Bound(s explorer.Statistics, masks subnet.Masks) (low, high float64, ok bool) {
	for i, g := range masks.Geometry().Layers {
		l := masks.Layer(i)
		partial := func(kept, of int) bool { return kept > 0 && kept < of }
		if partial(l.Heads.Len(), g.Heads) || partial(l.Channels.Len(), g.FFN) {
			return 0, 0, false
		}
	}
	loss := 0.9 * Loss(masks)
	return 0.8 * loss, 1.2 * loss, s.Ready && loss > 0
}

// uniform keeps the same share of MLP channels in every layer so that the whole model keeps about target.
func (m *model) uniform(target float64) subnet.Masks {
	return m.cut(target, false, subnet.DefaultGranularity)
}

// cut is uniform in steps of channels; with attention it drops the last KV group of every layer too.
func (m *model) cut(target float64, attention bool, step int) subnet.Masks {
	masks := subnet.Dense(m.info.Geometry)
	for i, g := range m.info.Geometry.Layers {
		l := masks.Layer(i)
		if attention && g.KVHeads > 1 {
			l.Heads = subnet.Range(g.Heads, 0, g.Heads-g.HeadsPerGroup())
		}
		kept, _ := l.ModuleParams(m.info.Geometry, i)
		heads, mlp := m.info.Geometry.ModuleParams(i)
		share := max(0, (target*float64(heads+mlp)-float64(kept))/float64(mlp))
		keep := step * int(math.Round(share*float64(g.FFN)/float64(step)))
		l.Channels = subnet.Of(g.FFN, draft.Rank(scores(i, g.FFN))[:min(max(keep, step), g.FFN)]...)
		masks = masks.With(i, l)
	}
	return masks
}

func (m *model) Cut(ctx context.Context, c explorer.Cut, mon explorer.Monitor) (explorer.Made, error) {
	aim := cmp.Or(c.Within, search.Ratio(c.Target))
	if aim.Check() != nil || !explorer.IsPreset(c.Preset) {
		return explorer.Made{}, fmt.Errorf("%w: a cut to %v by %q", explorer.ErrInvalid, aim, c.Preset)
	}
	method := explorer.Method{Preset: cmp.Or(c.Preset, explorer.Presets()[0]), Seed: c.Seed, Granularity: cmp.Or(c.Granularity, subnet.DefaultGranularity)}
	method.Attention = c.Attention != nil && *c.Attention
	masks := m.cut(m.share(aim), method.Attention, method.Granularity)
	if err := aim.Within(aim.Cost(masks, prices{sizes{}})); err != nil && aim.Measure != search.Params { // ratios are rounded to widths
		return explorer.Made{}, fmt.Errorf("%w: %w", explorer.ErrUnsupported, err)
	}
	return m.fit(ctx, masks, c.Calibration, c.Reform, method.AimedAt(aim), mon)
}

func (m *model) Refit(ctx context.Context, masks subnet.Masks, c explorer.Refit, mon explorer.Monitor) (explorer.Made, error) {
	return m.fit(ctx, masks, c.Calibration, c.Reform, explorer.Method{}, mon)
}

// Identify implements explorer.Cutter.
func (m *model) Identify(_ context.Context, c explorer.Calibration, _ explorer.Monitor) (explorer.TextRef, []explorer.MixPart, error) {
	return m.texts(c)
}

// CheckSize implements explorer.Cutter.
func (m *model) CheckSize(_ subnet.Masks, c explorer.Quantize) error {
	if least := float64(m.info.Bytes) / 3; c.Target.Value < least {
		return fmt.Errorf("%w: %.2f MB, the smallest is %.2f MB", explorer.ErrInvalid, c.Target.Value/1e6, least/1e6)
	}
	return nil
}

// Quantize gives the matrices of the first layer a type; the smallest file takes a third of the model's.
func (m *model) Quantize(ctx context.Context, from gguf.Subnet, c explorer.Quantize, _ string, mon explorer.Monitor) (explorer.Made, error) {
	if err := m.CheckSize(from.Masks, c); err != nil {
		return explorer.Made{}, err
	}
	masks := from.Masks
	if c.Widths {
		masks = m.cut(0.8, false, subnet.DefaultGranularity)
	}
	var trimmed *explorer.Vocab
	if size := c.Vocab; size.On() {
		if size.Auto {
			size = explorer.VocabSize{Keep: m.info.Vocab / 2}
		}
		kept, v, err := m.TrimVocab(ctx, size, c.Calibration, mon)
		if err == nil {
			masks, err = masks.WithVocab(kept)
		}
		if err != nil {
			return explorer.Made{}, err
		}
		trimmed, v.Asked = &v, c.Vocab
	}
	made, err := m.fit(ctx, masks, c.Calibration, c.Reform, explorer.Method{Preset: cmp.Or(c.Preset, explorer.Presets()[0])}.AimedAt(c.Target), mon)
	if err != nil {
		return made, err
	}
	made.Method.Vocab = trimmed
	made.Subnet.Types = map[string]subnet.Type{"blk.0.ffn_up.weight": subnet.Q4_0, "blk.0.ffn_gate.weight": subnet.Q4_0, "blk.0.ffn_down.weight": subnet.Q3_K}
	made.Subnet.Importance = map[string][]float32{"blk.0.ffn_up.weight": make([]float32, 576)}
	made.Method.Typed = &explorer.Typed{Matrices: map[string]int{"Q4_0": 2, "Q3_K": 1}, Predicted: 0.02, Measured: 0.021}
	return made, nil
}

// fit reports a re-fit of masks layer by layer.
func (m *model) fit(ctx context.Context, masks subnet.Masks, c explorer.Calibration, o explorer.ReformOptions, method explorer.Method, mon explorer.Monitor) (explorer.Made, error) {
	text, mix, err := m.texts(c)
	if err != nil {
		return explorer.Made{}, err
	}
	method.Reform, method.Text, method.Windows, method.Seq = cmp.Or(o.Method, "exact"), text, 8, 2048
	method.Mix, method.Draw = mix, cmp.Or(c.Draw, explorer.DrawWhole)
	if !slices.Contains([]string{"exact", "admm", "none"}, method.Reform) {
		return explorer.Made{}, fmt.Errorf("%w: re-fit by %q", explorer.ErrInvalid, o.Method)
	}
	if m.b.Refitting != nil {
		m.b.Refitting(o)
	}
	method.FitTarget, method.Lambda = o.Target, o.Lambda
	method.Pull, method.Bias = o.Pull != nil && *o.Pull, o.Bias != nil && *o.Bias
	if method.Reform == "admm" {
		method.Rho, method.Steps = cmp.Or(o.Rho, 1), cmp.Or(o.Steps, 30)
	}
	report := func(p explorer.LayerProgress) {
		p.Ridge = 0.01
		if o.Lambda != nil {
			p.Ridge = *o.Lambda
		}
		for step := range method.Steps {
			p.Curve = append(p.Curve, p.ErrAfter+(p.ErrBefore-p.ErrAfter)*math.Exp(-float64(step+1)/5))
		}
		mon.Layer(p)
	}
	refit := make([]gguf.Refit, masks.Layers())
	for i, g := range masks.Geometry().Layers {
		if err := m.step(ctx, mon, i, masks.Layers(), "layers", fmt.Sprintf("layer %d", i)); err != nil {
			return explorer.Made{}, err
		}
		l := masks.Layer(i)
		a := weight(i, masks.Layers(), draft.Attention) * (1.01 - float64(l.Heads.Len())/float64(g.Heads))
		b := weight(i, masks.Layers(), draft.MLP) * (1.01 - float64(l.Channels.Len())/float64(g.FFN))
		report(explorer.LayerProgress{Layer: i, Module: draft.Attention, Kept: l.Heads.Len(), Of: g.Heads, ErrBefore: 4 * a, ErrAfter: 2 * a})
		report(explorer.LayerProgress{Layer: i, Module: draft.MLP, Kept: l.Channels.Len(), Of: g.FFN, ErrBefore: 6 * b, ErrAfter: 2.5 * b})
		if m.b.Weights {
			refit[i] = gguf.Refit{WO: make([]float32, 576*len(masks.OColumns(i))), WD: make([]float32, 576*l.Channels.Len())}
		}
	}
	refit[0].BD = slices.Repeat([]float32{0.25}, 576)
	mon.Progress(float64(masks.Layers()), float64(masks.Layers()), "layers", "")
	method.Seconds, method.Backend = 41, "fake"
	before := math.Exp(denseNLL + 1.6*Loss(masks))
	made := explorer.Made{Subnet: gguf.Subnet{Masks: masks, Refit: refit}, Method: method, Before: before, After: math.Exp(denseNLL + Loss(masks)), Dense: math.Exp(denseNLL)}
	if m.b.Worse {
		made.Subnet.Refit, made.Method.Kept = nil, explorer.KeptOriginal
		made.Rejected, made.After = 2*before, before
	}
	return made, nil
}

func (m *model) Carry(_ context.Context, from gguf.Subnet, to subnet.Masks) (gguf.Subnet, error) {
	refit := make([]gguf.Refit, to.Layers())
	for i, r := range from.Refit {
		refit[i] = gguf.Refit{BO: r.BO, BD: r.BD, GA: r.GA, GM: r.GM}
	}
	return gguf.Subnet{Masks: to, Refit: refit, Types: from.Types, Importance: from.Importance}, nil
}

func (m *model) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	inner, err := m.engine.Load(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	ratio := 1.0
	if o.Path != m.info.Path {
		sub, err := m.Read(ctx, o.Path)
		if err != nil {
			return nil, errors.Join(err, inner.Close())
		}
		ratio = sub.Masks.Size().Ratio
	}
	return &talker{Model: inner, ratio: ratio, bytes: int64(ratio * float64(m.info.Bytes))}, nil
}

func (m *model) Others(ctx context.Context) (float64, int, bool) {
	return m.b.Busy, 4, ctx.Err() == nil
}
