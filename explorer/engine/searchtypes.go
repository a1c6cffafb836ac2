package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/pipeline"
)

// BytesOf implements [search.TypedPrices].
func (p *prices) BytesOf(m subnet.Masks, types map[string]subnet.Type) (file, tensors int64, err error) {
	size, err := p.files.OfTypes(m, gguf.Refitted{Outputs: true}, types)
	if err != nil {
		return 0, 0, err
	}
	return size.WithProvenance(provenanceRoom()), size.Tensors, nil
}

// provenanceRoom is as long as what a file holds about how it was made, about.
func provenanceRoom() map[string]any {
	return map[string]any{"name": strings.Repeat("n", explorer.MaxName), "method": strings.Repeat("m", 1500)}
}

// typedSearch is what a search over types and the vocabulary works with.
type typedSearch struct {
	m     *model
	r     explorer.StartSearch
	dir   string
	mon   explorer.Monitor
	text  *passage // of the calibration, once it is read
	types *pipeline.Types

	losses *oneshot.TypeLosses // nil until they are measured
	vocab  vocabChoice
}

// typedSearch returns what a search over types works with, nil where it searches widths alone.
func (m *model) typedSearch(r explorer.StartSearch, dir string, mon explorer.Monitor, text *passage) (*typedSearch, error) {
	if !r.Typed() {
		return nil, nil
	}
	allowed, err := allowedTypes(r.Types)
	if err != nil {
		return nil, err
	}
	if err := m.checkFits(allowed, true, r.Granularity); err != nil {
		return nil, err
	}
	if len(r.Types) == 0 { // the vocabulary alone
		allowed = []subnet.Type{}
	}
	s := &typedSearch{m: m, r: r, dir: dir, mon: mon, text: text}
	s.types = &pipeline.Types{
		Bare: oneshot.BareTypes(m.geometry(), m.file), Losses: s.measure, Load: m.loader(), Allowed: allowed, Compensate: true, Inner: true, Cost: m.costOf,
		Bytes: m.tokenBytes, Plain: s.plain,
	}
	s.vocab = vocabChoice{asked: r.Vocab, text: r.Calibration}
	if r.Vocab.On() {
		s.types.Vocab = s.sizes
		if s.types.Least, err = m.leastVocab(r.Vocab); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// leastVocab returns a vocabulary no larger than one of a size, before tokens are counted.
func (m *model) leastVocab(v explorer.VocabSize) (subnet.Set, error) {
	words, err := m.file.Vocabulary()
	if err != nil {
		return subnet.Set{}, err
	}
	r, err := words.Rank(vocab.Request{Counts: make([]float64, words.Len())})
	if err != nil {
		return subnet.Set{}, err
	}
	n := v.Keep
	if n == 0 {
		n = r.Least(true)
	}
	if v.Auto {
		sizes := vocabSizes(words.Len(), n)
		n = sizes[len(sizes)-1]
	}
	if n, err = r.Keep(n, true); err != nil {
		return subnet.Set{}, fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	return subnet.Of(words.Len(), r.Kept(n)...), nil
}

// allowedTypes returns types by their names, nil for all that fit.
func allowedTypes(names []string) ([]subnet.Type, error) {
	if len(names) == 0 || explorer.AutoTypes(names) {
		return nil, nil
	}
	var types []subnet.Type
	for _, name := range names {
		t, err := subnet.ParseType(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
		}
		if !gguf.Writable(t) {
			return nil, fmt.Errorf("%w: %s cannot be written", explorer.ErrInvalid, t)
		}
		types = append(types, t)
	}
	return types, nil
}

// checkFits returns an error for a type that no matrix can have, because the rows of none are a multiple of its blocks. Rows of W_D are as wide
// as the channels that are kept, where widths are chosen.
func (m *model) checkFits(types []subnet.Type, widths bool, granularity int) error {
	step := cmp.Or(granularity, subnet.DefaultGranularity)
	for _, t := range types {
		var rows []string
		fits := false
		for _, tensor := range m.file.Tensors() {
			if len(tensor.Dims) != 2 {
				continue
			}
			width := tensor.Dims[1]
			for n := width; n > 0 && !fits && (n == width || widths && strings.HasSuffix(tensor.Name, ".ffn_down.weight")); n = (n - 1) / step * step {
				_, fits = t.RowSize(n)
			}
			if text := strconv.Itoa(width); !slices.Contains(rows, text) {
				rows = append(rows, text)
			}
		}
		if !fits {
			return fmt.Errorf("%w: types: %s fits no matrix of the model: their rows have %s numbers, no multiple of its blocks", explorer.ErrInvalid, t, strings.Join(rows, ", "))
		}
	}
	return nil
}

// loader loads the dense model with changed matrices.
func (m *model) loader() oneshot.Loader {
	return func(ctx context.Context, round func(string, int, []float32) error) (*decoder.Model, error) {
		whole, err := m.weights(ctx)
		if err != nil {
			return nil, err
		}
		return m.decode(ctx, whole.Device(), m.file, decoder.WithRounding(round))
	}
}

// measure measures what types cost, or reads it where the folder of the search has it.
func (s *typedSearch) measure(ctx context.Context) (*oneshot.TypeLosses, error) {
	if s.losses != nil {
		return s.losses, nil
	}
	dm, err := s.m.weights(ctx)
	if err != nil {
		return nil, err
	}
	s.losses, err = s.m.typeLosses(ctx, work{dm: dm, text: *s.text}, s.types.Load, s.dir, s.mon)
	return s.losses, err
}

// sizes returns the sizes of the vocabulary to choose from.
func (s *typedSearch) sizes(ctx context.Context) ([]oneshot.VocabLevel, error) {
	var err error
	s.vocab, err = s.m.vocabLevels(ctx, s.r.Vocab, s.r.Calibration, s.mon)
	return s.vocab.levels, err
}

// tokenBytes returns how many bytes the tokens of a window after its first are.
func (m *model) tokenBytes(window []int32) int64 {
	return m.textBytes(passage{windows: [][]int32{window}})
}

// plain measures the dense model in every plain type on a window: bytes and mean negative log-likelihoods in nats per token.
func (s *typedSearch) plain(ctx context.Context, window []int32) ([]search.Plain, error) {
	var out []search.Plain
	for _, name := range s.m.plainTypes() {
		if err := s.mon.Gate(ctx); err != nil {
			return nil, err
		}
		s.mon.Progress(float64(len(out)), 0, "types", "measuring the model as "+name)
		p := passage{windows: [][]int32{window}}
		bytes, nll, err := s.m.plainScore(ctx, name, p, s.mon)
		if err != nil {
			return nil, err
		}
		out = append(out, search.Plain{Type: name, Bytes: bytes, NLL: nll})
	}
	slices.SortStableFunc(out, func(a, b search.Plain) int { return cmp.Compare(a.Bytes, b.Bytes) })
	return out, nil
}

// plainTypes are the types that the whole model may be stored in, those left out that have the same file as a larger one, because its rows fit no other.
func (m *model) plainTypes() []string {
	dense := subnet.Dense(m.geometry())
	names := []string{""}
	seen := map[int64]bool{m.info.FileSize(dense, "").File: true}
	for _, t := range oneshot.TypeCandidates() {
		size := m.info.FileSize(dense, t.String()).File
		fits := true
		for _, tensor := range m.file.Tensors() {
			if _, ok := t.RowSize(tensor.Dims[len(tensor.Dims)-1]); len(tensor.Dims) == 2 && strings.HasPrefix(tensor.Name, "blk.") && !ok {
				fits = false
			}
		}
		if fits || !seen[size] { // two types of one size may differ
			names = append(names, t.String())
		}
		seen[size] = true
	}
	return names
}

// plainScore measures the dense model in a type: the bytes of its file and the mean negative log-likelihood of a passage.
func (m *model) plainScore(ctx context.Context, typ string, p passage, mon explorer.Monitor) (bytes int64, nll float64, err error) {
	dense := gguf.Subnet{Masks: subnet.Dense(m.geometry())}
	if typ == "" {
		q, _, err := m.scoreDecoder(ctx, dense, "", p, mon)
		return m.info.FileSize(dense.Masks, "").File, q.NLL, err
	}
	dir, err := scratch.New(m.engine.options.Scratch, "plain")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	path := dir.Join("plain.gguf")
	report, err := m.Write(ctx, dense, path, typ, mon)
	if err != nil {
		return 0, 0, err
	}
	q, err := m.scoreCut(ctx, path, p, mon)
	return report.Bytes, q.NLL, err
}

// describe records how the types and the vocabulary of a result were chosen, and compares it with the best plain type of its size.
func (s *typedSearch) describe(ctx context.Context, found pipeline.Result, made *explorer.Made) error {
	if found.Size != nil {
		made.Method.Typed = typed(found.Size)
		made.Method.Typed.Compensated, made.Method.Typed.Inner = len(made.Subnet.Refit) > 0, len(made.Subnet.Refit) > 0
	}
	if made.Subnet.Masks.TrimsVocab() {
		v, err := s.vocab.record(ctx, s.m, made.Subnet.Masks.VocabLen(), s.mon)
		if err != nil {
			return err
		}
		made.Method.Vocab = v
	}
	return nil
}

// rival compares a result with the plain type that is the best one of at most its size, on the ends of the texts.
func (s *typedSearch) rival(ctx context.Context, found pipeline.Result, made *explorer.Made) error {
	best := -1
	for i, p := range found.Plain {
		if cost := found.Target.Cost(subnet.Dense(s.m.geometry()), plainPrices{s.m, p.Type}); p.Type != "" && cost <= found.Target.Value && (best < 0 || p.NLL < found.Plain[best].NLL) {
			best = i
		}
	}
	if best < 0 || len(s.text.end) == 0 || made.After == 0 || made.Subnet.Masks.TrimsVocab() {
		return nil
	}
	plain := found.Plain[best]
	p := *s.text
	p.windows, p.from, p.kept = p.end, nil, nil
	bytes, nll, err := s.m.plainScore(ctx, plain.Type, p, s.mon)
	if err != nil {
		return err
	}
	rival := explorer.PlainRival{Type: plain.Type, Bytes: bytes, Perplexity: math.Exp(nll)}
	rival.Better = rival.Perplexity <= made.After
	made.Method.Plain = &rival
	if rival.Better {
		s.mon.Note(fmt.Sprintf("plain %s predicts held-out text as well (perplexity %.2f, the result %.2f) in %.1f MB: quantise the model plainly, with lathe subnets export dense --type %s",
			rival.Type, rival.Perplexity, made.After, float64(bytes)/1e6, rival.Type))
	}
	return nil
}

// plainPrices are the prices of the model in one type.
type plainPrices struct {
	m   *model
	typ string
}

func (p plainPrices) Bytes(masks subnet.Masks, _ string) (file, tensors int64, err error) {
	size := p.m.info.FileSize(masks, p.typ)
	return size.File, size.Tensors, nil
}

func (p plainPrices) Seconds(subnet.Masks, string) (float64, bool) { return 0, false }
