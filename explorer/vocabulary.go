package explorer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// TrimVocab makes a subnet with the units and weights of another and a smaller vocabulary.
type TrimVocab struct {
	Subnet      SubnetID
	Vocab       VocabSize
	Calibration Calibration // the texts whose tokens are counted, in full
	Name        string
}

// VocabSize is how many entries of the vocabulary are kept: Keep, or as many as hold a share of the tokens of texts.
type VocabSize struct {
	Keep  int     `json:"keep,omitempty"`
	Share float64 `json:"share,omitempty"` // in (0, 1)
	Auto  bool    `json:"auto,omitempty"`  // chosen together with widths and types for a size
	// Force drops tokens of the chat template and letters of the texts' scripts too, where Keep needs that.
	Force bool `json:"force,omitempty"`
}

// On reports whether there is a size.
func (v VocabSize) On() bool { return v.Keep != 0 || v.Share != 0 || v.Auto }

// String returns the size as [ParseVocabSize] reads it.
func (v VocabSize) String() string {
	switch {
	case v.Auto:
		return AutoTypeName
	case v.Share != 0:
		return strconv.FormatFloat(v.Share, 'g', -1, 64)
	case v.Keep != 0:
		return strconv.Itoa(v.Keep)
	}
	return ""
}

// VocabShareRange is the range of shares of tokens.
func VocabShareRange() Range { return Range{0, 1, true} }

// ParseVocabSize reads a number of entries, such as 24000, or a share of the tokens, such as 0.999. Its errors wrap [ErrInvalid].
func ParseVocabSize(text string) (VocabSize, error) {
	text = strings.TrimSpace(text)
	var v VocabSize
	if strings.EqualFold(text, AutoTypeName) {
		return VocabSize{Auto: true}, nil
	}
	var err error
	if strings.ContainsAny(text, ".eE") {
		v.Share, err = strconv.ParseFloat(text, 64)
	} else {
		v.Keep, err = strconv.Atoi(text)
	}
	if err != nil || !v.On() {
		return VocabSize{}, fmt.Errorf("%w: %q is neither a number of tokens such as 24000 nor a share such as 0.999, nor auto", ErrInvalid, text)
	}
	return v, v.check(nil)
}

// optional is check for a size that may be left out.
func (v VocabSize) optional(g *subnet.Geometry) error {
	if !v.On() {
		return nil
	}
	return v.check(g)
}

func (v VocabSize) check(g *subnet.Geometry) error {
	most := subnet.MaxVocab
	if g != nil {
		most = g.Vocab
	}
	switch {
	case v.Auto && (v.Keep != 0 || v.Share != 0):
		return fmt.Errorf("%w: a size of the vocabulary and auto", ErrInvalid)
	case v.Auto:
		return nil
	case v.Keep != 0 && v.Share != 0:
		return fmt.Errorf("%w: both %d entries of the vocabulary and a share of %g", ErrInvalid, v.Keep, v.Share)
	case v.Share != 0 && (!VocabShareRange().Has(v.Share) || v.Share == 1):
		return fmt.Errorf("%w: a share of %g of the tokens is not in (0, 1)", ErrInvalid, v.Share)
	case v.Share == 0 && (v.Keep < 1 || v.Keep > most):
		return fmt.Errorf("%w: %d entries of the vocabulary, not from 1 to %d", ErrInvalid, v.Keep, most)
	}
	return nil
}

// Vocab is what a choice of entries of the vocabulary led to.
type Vocab struct {
	Asked VocabSize `json:"asked"`
	Kept  int       `json:"kept"`
	Of    int       `json:"of"`
	Least int       `json:"least"` // the fewest that keep what should stay
	// Text is what tokens were counted in, Tokens how many there are, and Covered the share of them whose entry is kept.
	Text    TextRef `json:"text,omitzero"`
	Tokens  int64   `json:"tokens"`
	Covered float64 `json:"covered"`
	// Words are runs of characters other than white space. HeldOut is true where they are of an eighth of the texts that was not counted, and
	// false for texts that are too short for that.
	HeldOut            bool    `json:"held_out"`
	TokensPerWord      float64 `json:"tokens_per_word"`
	DenseTokensPerWord float64 `json:"dense_tokens_per_word"`
	// Characters of the same texts for each token; 0 in entries from before they were counted.
	CharsPerToken      float64        `json:"characters_per_token,omitempty"`
	DenseCharsPerToken float64        `json:"dense_characters_per_token,omitempty"`
	Scripts            []vocab.Script `json:"scripts,omitempty"`
	Curve              []VocabPoint   `json:"curve,omitempty"` // from all entries to the fewest
}

// VocabPoint is a size of the vocabulary, with what it is estimated to cost.
type VocabPoint struct {
	Kept   int     `json:"kept"`
	Bytes  int64   `json:"bytes"`  // of the embedding and the output matrix, in the types of the source
	Longer float64 `json:"longer"` // tokens of the texts over those with all entries
}

// Longer returns the tokens per word over those of the whole vocabulary, 0 where they were not counted.
func (v *Vocab) Longer() float64 {
	if v.DenseTokensPerWord <= 0 {
		return 0
	}
	return v.TokensPerWord / v.DenseTokensPerWord
}

// charsPerToken returns how many characters of text a token of a subnet is, by the texts that the vocabulary of one of some subnets was chosen on; 0
// where none is trimmed.
func (s *Snapshot) charsPerToken(id SubnetID, among []SubnetID) float64 {
	if n, ok := s.Subnet(id); ok && n.Method.Vocab != nil {
		return n.Method.Vocab.CharsPerToken
	}
	for _, other := range among {
		if n, ok := s.Subnet(other); ok && n.Method.Vocab != nil && n.Method.Vocab.DenseCharsPerToken > 0 {
			return n.Method.Vocab.DenseCharsPerToken
		}
	}
	return 0
}

// A Trimmer chooses entries of the vocabulary.
type Trimmer interface {
	// TrimVocab counts tokens in the texts of a calibration, all of each up to a limit, and returns the entries to keep. A size that would
	// lose what should stay is an error that names it and wraps ErrInvalid.
	TrimVocab(ctx context.Context, v VocabSize, c Calibration, m Monitor) (subnet.Set, Vocab, error)
}

func (TrimVocab) needs() needs { return aChange }

func (c TrimVocab) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	if _, err := s.Masks(c.Subnet); err != nil {
		return Receipt{}, err
	}
	if err := errors.Join(e.checkCalibration(c.Calibration), c.Vocab.check(s.Model.Geometry)); err != nil {
		return Receipt{}, err
	}
	title := fmt.Sprintf("vocabulary of %s to %v", s.label(c.Subnet), c.Vocab)
	return e.launch(a, jobs.Foreground, JobVocab, title, func(ctx context.Context, m *monitor) error { return e.trimVocab(ctx, a, c, m) })
}

func (e *Exploration) trimVocab(ctx context.Context, a Actor, c TrimVocab, m *monitor) error {
	s := e.Snapshot()
	subject, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return err
	}
	parent := c.Subnet
	if parent == DraftID {
		parent = s.Draft.Base
	}
	n, _ := s.Subnet(parent)
	made := Made{Subnet: subject, Method: n.Method}
	if err := e.trim(ctx, &made.Subnet, &made.Method, c.Vocab, c.Calibration, m); err != nil {
		return err
	}
	name := cmp.Or(c.Name, fmt.Sprintf("%s vocabulary %d", s.label(c.Subnet), made.Method.Vocab.Kept))
	return m.Persist(ctx, func() error { return e.keep(a, m, made, Subnet{Name: name, Origin: Trimmed, Parent: parent}) })
}

// errVocabAuto is the error for a size that nothing chooses.
func errVocabAuto() error {
	return fmt.Errorf("%w: the vocabulary is chosen by itself together with widths and types alone: with --target 60MB --types auto", ErrInvalid)
}

// trim gives a subnet a smaller vocabulary, and records it in its method.
func (e *Exploration) trim(ctx context.Context, s *gguf.Subnet, method *Method, v VocabSize, c Calibration, m *monitor) error {
	if v.Auto {
		return errVocabAuto()
	}
	kept, made, err := e.model.TrimVocab(ctx, v, c, m)
	if err != nil {
		return err
	}
	if s.Masks, err = s.Masks.WithVocab(kept); err != nil {
		return err
	}
	method.Vocab = &made
	if r := made.Longer(); r > muchLonger {
		m.Note(fmt.Sprintf("texts have %.1f %% more tokens with %d entries of the vocabulary", 100*(r-1), made.Kept))
	}
	for _, script := range made.Scripts {
		if script.Kept == 0 && script.Of >= manyEntries {
			m.Note(fmt.Sprintf("none of the %d tokens of %s is kept: such texts are spelled by bytes", script.Of, script.Name))
		}
	}
	return nil
}

// muchLonger is the factor in tokens from which on a vocabulary is reported as small, and manyEntries the entries of a script from which on its
// loss is.
const (
	muchLonger  = 1.04
	manyEntries = 20
)

// BitsPerByte returns the mean negative log-likelihood in bits per byte of text, which compares across vocabularies, 0 where the bytes of the
// scored tokens are not known.
func (m Measurement) BitsPerByte() float64 {
	if m.Bytes <= 0 {
		return 0
	}
	return m.NLL * float64(m.Conditions.Tokens) / math.Ln2 / float64(m.Bytes)
}

// relativeOfBits returns by which factor the perplexity of tokens as long as those of the measurement is above the dense model's, 0 if that is
// not known.
func (m Measurement) relativeOfBits() float64 {
	if m.DenseBits <= 0 || m.Bytes <= 0 {
		return 0
	}
	return math.Exp((m.BitsPerByte() - m.DenseBits) * math.Ln2 * float64(m.Bytes) / float64(m.Conditions.Tokens))
}

// sameText reports whether two measurements, of which one may be of another vocabulary, are of the same text under the same conditions.
func (m Measurement) sameText(of Measurement) bool {
	a, b := m.Conditions, of.Conditions
	a.Tokens, a.Windows, a.Vocab, a.Type = b.Tokens, b.Windows, b.Vocab, b.Type
	const close = 0.005 // the first token of each window is not scored
	return a == b && of.Bytes > 0 && math.Abs(float64(m.Bytes)/float64(of.Bytes)-1) < close
}

// denseBits returns the dense model's bits per byte on the text of a measurement.
func (s *Snapshot) denseBits(of Measurement) (float64, bool) {
	for _, m := range s.Model.Measurements {
		if m.sameText(of) {
			return m.BitsPerByte(), true
		}
	}
	return 0, false
}
