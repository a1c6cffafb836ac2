package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// Quantize implements [explorer.Cutter].
func (m *model) Quantize(ctx context.Context, from gguf.Subnet, c explorer.Quantize, dir string, mon explorer.Monitor) (explorer.Made, error) {
	method := explorer.Method{Preset: c.Preset, Seed: c.Seed}.AimedAt(c.Target)
	size, err := m.sizeOf(from, c)
	if err != nil {
		return explorer.Made{}, err
	}
	if err := m.CheckSize(from.Masks, c); err != nil {
		return explorer.Made{}, err
	}
	size.Load = m.loader()
	var vocab vocabChoice
	job := making{calibration: c.Calibration, reform: c.Reform, method: method, phases: func(oneshot.Recipe) []oneshot.Phase { return sizePhases(c, size) }}
	if c.Widths {
		job.between = []string{comparingPhase}
	}
	if c.Vocab.On() {
		job.before = []string{vocabularyPhase}
		phase, err := m.stagesOf(job, mon)
		if err != nil {
			return explorer.Made{}, err
		}
		phase.begin(vocabularyPhase)
		choose := m.vocabLevel
		if c.Vocab.Auto {
			choose = m.vocabLevels
		}
		if vocab, err = choose(ctx, c.Vocab, c.Calibration, mon); err != nil {
			return explorer.Made{}, err
		}
		size.Vocab = vocab.levels
	}
	job.run = func(w work) (gguf.Subnet, oneshot.Report, error) {
		w.config.Attention, w.config.Granularity = c.Attention, c.Granularity
		var err error
		if size.Losses, err = m.typeLosses(ctx, w, size.Load, dir, mon); err != nil {
			return gguf.Subnet{}, oneshot.Report{}, err
		}
		sub, report, err := oneshot.Sized(ctx, w.dm, w.text.windows, size, w.config)
		if err != nil || !c.Widths || len(w.text.end) == 0 {
			return sub, report, err
		}
		w.phase.only(comparingPhase)
		return m.orTypesAlone(ctx, w, size, sub, report, mon)
	}
	made, err := m.make(ctx, job, mon)
	if err == nil && made.Method.Typed != nil {
		made.Method.Typed.Compensated = size.Compensate && len(made.Subnet.Refit) > 0
		made.Method.Typed.Inner = size.Inner && len(made.Subnet.Refit) > 0
	}
	if err == nil && c.EntryBytes > 0 { // what is left of the target for weights and KV cache
		own := c.Target
		own.Value -= float64(c.EntryBytes) * float64(made.Subnet.Masks.VocabLen())
		made.Method = made.Method.AimedAt(own)
	}
	if err == nil && made.Subnet.Masks.TrimsVocab() && c.Vocab.On() {
		made.Method.Vocab, err = vocab.record(ctx, m, made.Subnet.Masks.VocabLen(), mon)
	}
	return made, err
}

// sizePhases returns the phases of making a subnet for a size.
func sizePhases(c explorer.Quantize, size oneshot.Size) []oneshot.Phase {
	out := []oneshot.Phase{oneshot.Typing}
	if c.Widths {
		out = append(out, oneshot.Measuring)
	}
	if size.Compensate && size.Inner {
		out = append(out, oneshot.Rounding)
	}
	return append(out, oneshot.Reforming)
}

// orTypesAlone returns a subnet for a size or, where all units fit into it with smaller types and lose less on held-out text, the model with those
// types and the same vocabulary: losses of small cuts are measured on little text, and are often too small.
func (m *model) orTypesAlone(ctx context.Context, w work, size oneshot.Size, sub gguf.Subnet, report oneshot.Report, mon explorer.Monitor) (gguf.Subnet, oneshot.Report, error) {
	whole := subnet.Dense(m.geometry())
	if sub.Masks.TrimsVocab() {
		var err error
		if whole, err = whole.WithVocab(sub.Masks.Vocab()); err != nil {
			return gguf.Subnet{}, oneshot.Report{}, err
		}
	}
	size.From, size.Vocab = &gguf.Subnet{Masks: whole}, nil
	other, alone, err := oneshot.Sized(ctx, w.dm, w.text.windows, size, w.config)
	if errors.Is(err, oneshot.ErrSize) {
		return sub, report, nil
	}
	if err != nil {
		return gguf.Subnet{}, oneshot.Report{}, err
	}
	p := w.text
	p.windows, p.from, p.kept = p.end, nil, nil // as quickTyped, without what only reports need
	heldOut := func(s gguf.Subnet) (float64, error) {
		s.Masks = s.Masks.WithAllVocab()
		return m.perplexity(ctx, s, p, mon)
	}
	with, err := heldOut(sub)
	if err != nil {
		return gguf.Subnet{}, oneshot.Report{}, err
	}
	without, err := heldOut(other)
	if err != nil {
		return gguf.Subnet{}, oneshot.Report{}, err
	}
	if !(without < with) {
		return sub, report, nil
	}
	mon.Note(fmt.Sprintf("no units are dropped: types alone reach the size and lose less (perplexity %.2f instead of %.2f on held-out text)", without, with))
	alone.Granularity, alone.Size.Vocab, alone.Seconds = report.Granularity, report.Size.Vocab, report.Seconds+alone.Seconds
	return other, alone, nil
}

// sizeOf returns what a subnet is made to fit, but for what is measured.
func (m *model) sizeOf(from gguf.Subnet, c explorer.Quantize) (oneshot.Size, error) {
	size := oneshot.Size{Budget: int64(c.Target.Value), Cost: m.costOf(c.Target), Compensate: c.Compensate == nil || *c.Compensate}
	if files := size.Cost; c.EntryBytes > 0 && c.Target.Measure == search.Memory {
		size.Cost = func(masks subnet.Masks, types map[string]subnet.Type) (int64, error) {
			n, err := files(masks, types)
			return n + c.EntryBytes*int64(masks.VocabLen()), err
		}
	}
	size.Inner = c.Inner == nil || *c.Inner
	if !c.Widths {
		size.From = &from
	}
	if c.Target.Measure == search.Memory {
		size.Group = c.Target.CacheBytes(subnet.Dense(m.geometry())) / int64(max(1, groupsOf(m.geometry())))
	}
	var err error
	if size.Types, err = allowedTypes(c.Types); err == nil {
		err = m.checkFits(size.Types, c.Widths, c.Granularity)
	}
	return size, err
}

// CheckSize implements [explorer.Cutter].
func (m *model) CheckSize(masks subnet.Masks, c explorer.Quantize) error {
	size, err := m.sizeOf(gguf.Subnet{Masks: masks}, c)
	if err != nil {
		return err
	}
	if c.Vocab.On() {
		least, err := m.leastVocab(c.Vocab)
		if err != nil {
			return err
		}
		size.Vocab = []oneshot.VocabLevel{{Set: least}}
	}
	attention := !m.geometry().Limits().AllQuery && (c.Attention == nil || *c.Attention)
	least, err := oneshot.Smallest(m.geometry(), m.file, size, c.Granularity, attention)
	if err == nil && least > size.Budget {
		err = translate(oneshot.TooSmall(size.Budget, least))
	}
	return err
}

// groupsOf returns the number of KV groups of all layers.
func groupsOf(g *subnet.Geometry) int {
	n := 0
	for _, l := range g.Layers {
		n += l.KVHeads
	}
	return n
}

// costOf returns the function that computes what a target bounds. A file also holds how it was made, which is at most about this long.
func (m *model) costOf(t search.Target) func(subnet.Masks, map[string]subnet.Type) (int64, error) {
	provenance := provenanceRoom()
	return func(masks subnet.Masks, types map[string]subnet.Type) (int64, error) {
		size, err := m.info.Files.OfTypes(masks, gguf.Refitted{Outputs: true}, types)
		if err != nil {
			return 0, err
		}
		if t.Measure == search.Memory {
			return size.Tensors + t.CacheBytes(masks), nil
		}
		return size.WithProvenance(provenance), nil
	}
}

const (
	// typesFile is the file, in the folder of statistics, that the losses of types are kept in; maxTypes bounds it, in bytes.
	typesFile = "types.json"
	maxTypes  = 1 << 30
	// typesVersion is incremented when the meaning of stored losses changes.
	typesVersion = 2
)

// keptTypes are losses of types with what they were measured on.
type keptTypes struct {
	Version int                 `json:"version"`
	Model   string              `json:"model"` // fingerprint
	Text    string              `json:"text"`  // see [passage.id]
	Windows int                 `json:"windows"`
	Seq     int                 `json:"seq"`
	Draw    string              `json:"draw,omitempty"`
	Types   []string            `json:"types"` // candidates, those that another build has differ
	Losses  *oneshot.TypeLosses `json:"losses"`
}

// same reports whether two measurements have the same conditions.
func (k keptTypes) same(o keptTypes) bool {
	return k.Version == o.Version && k.Model == o.Model && k.Text == o.Text && k.Windows == o.Windows && k.Seq == o.Seq && k.Draw == o.Draw && strings.Join(k.Types, " ") == strings.Join(o.Types, " ")
}

// typeLosses returns what types cost, measured or, where the folder has them for this text, read.
func (m *model) typeLosses(ctx context.Context, w work, load oneshot.Loader, dir string, mon explorer.Monitor) (*oneshot.TypeLosses, error) {
	want := keptTypes{
		Version: typesVersion, Model: m.info.Fingerprint, Text: w.text.id(), Windows: len(w.text.windows), Seq: len(w.text.windows[0]), Draw: w.text.drawKey(),
	}
	for _, t := range oneshot.TypeCandidates() {
		want.Types = append(want.Types, t.String())
	}
	kept, err := readTypes(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		mon.Note(fmt.Sprintf("the losses of types are measured again: %v", err))
	}
	if err == nil && kept.same(want) && kept.Losses != nil && kept.Losses.Fits(m.geometry(), m.file) {
		return kept.Losses, nil
	}
	o := oneshot.TypeMeasuring{Progress: func(e oneshot.Event) { reportAndGate(ctx, mon, e) }}
	if err == nil && kept.same(want) {
		o.Kept = kept.Losses // of an interrupted run
	}
	if dir != "" {
		o.Keep = func(l *oneshot.TypeLosses) error {
			want.Losses = l
			return mon.Persist(ctx, func() error { return writeTypes(dir, want) })
		}
	}
	name, step := phaseWords(oneshot.Typing)
	w.phase.begin(name)
	mon.Progress(0, 0, "layers", step)
	losses, err := oneshot.MeasureTypes(ctx, w.dm, m.file, load, w.text.windows, o)
	if err != nil {
		return nil, err
	}
	if o.Keep != nil {
		err = o.Keep(losses)
	}
	return losses, err
}

// writeTypes stores losses.
func writeTypes(dir string, k keptTypes) error {
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, typesFile), 0o600, func(to io.Writer) error { return json.NewEncoder(to).Encode(k) })
}

// readTypes reads stored losses.
func readTypes(dir string) (k keptTypes, err error) {
	if dir == "" {
		return k, os.ErrNotExist
	}
	f, err := os.Open(filepath.Join(dir, typesFile))
	if err != nil {
		return k, err
	}
	defer func() { _ = f.Close() }() // only read from
	if err := json.NewDecoder(io.LimitReader(f, maxTypes)).Decode(&k); err != nil {
		return k, fmt.Errorf("%s: %w: %w", f.Name(), explorer.ErrDamaged, err)
	}
	return k, nil
}

// withSubnet calls use with a subnet on the device: that of the model or, where its matrices have types of their own, its file's, so that it
// computes with the numbers that the file holds. A file has the kept vocabulary, or all of it where kept is nil.
func (m *model) withSubnet(ctx context.Context, s gguf.Subnet, kept []int, mon explorer.Monitor, use func(*decoder.Model, *decoder.Subnet) error) (err error) {
	if s.Types == nil {
		dm, err := m.weights(ctx)
		if err != nil {
			return err
		}
		sub, err := dm.Subnet(ctx, s)
		if err != nil {
			return err
		}
		defer sub.Close()
		return use(dm, sub)
	}
	dir, err := scratch.New(m.engine.options.Scratch, "types")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	path := dir.Join("subnet.gguf")
	if kept == nil {
		s.Masks = s.Masks.WithAllVocab()
	}
	if _, err := m.Write(ctx, s, path, "", mon); err != nil {
		return err
	}
	return m.withCut(ctx, path, kept, use)
}

// quickTyped is quick for a subnet whose matrices have types of their own, on the numbers of one file, and also returns the divergence from the
// dense model on one of the ends, in nats per token. Distributions are over the whole vocabulary, so that one window is enough.
func (m *model) quickTyped(ctx context.Context, p passage, s gguf.Subnet, mon explorer.Monitor) (before, after, divergence float64, err error) {
	p.windows, p.from, p.kept = p.end, nil, nil
	s.Masks = s.Masks.WithAllVocab() // whose tokens the ends are of
	err = m.withSubnet(ctx, s, nil, mon, func(own *decoder.Model, subnet *decoder.Subnet) error {
		q, err := perplexity(ctx, p, graphScorer(own, subnet), mon, "scoring")
		if err != nil {
			return err
		}
		after = q.Perplexity
		dm, err := m.weights(ctx)
		if err != nil {
			return err
		}
		dense := dm.Dense()
		defer dense.Close()
		one := p
		one.windows = p.end[:1]
		_, d, err := distance(ctx, one, graphPredictor(dm, dense), graphPredictor(own, subnet), mon)
		if err == nil {
			divergence = d.KL
		}
		return err
	})
	if err != nil || s.Refit == nil {
		return after, after, divergence, err
	}
	s.Refit = nil
	before, err = m.perplexity(ctx, s, p, mon)
	return before, after, divergence, err
}

// typed records the choice of types.
func typed(r *oneshot.SizeReport) *explorer.Typed {
	if r == nil {
		return nil
	}
	return &explorer.Typed{Matrices: r.Types, Predicted: r.Predicted}
}

// typeOfScore names the type of what the graphs compute with.
func (m *model) typeOfScore(s gguf.Subnet) string {
	from := cmp.Or(m.info.Type(), "the source")
	if s.Types != nil {
		from = explorer.MixedTypes
	}
	return "F32 from " + from
}
