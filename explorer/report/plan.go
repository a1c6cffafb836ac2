package report

import (
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// leastWeights is the share of the weights below which no subnet is tried for a speed.
const leastWeights = 0.02

// FitAsked is what a file is planned for.
type FitAsked struct {
	Limit   int64              // bytes of memory
	Context int                // tokens
	Speed   float64            // tokens per second that it generates at least; 0 for any
	Vocab   explorer.VocabSize // the zero value keeps all entries
}

// A FitPlan is what is expected of a file before it is made.
type FitPlan struct {
	Limit      int64   `json:"limit_bytes"`
	Context    int     `json:"context"`
	Working    int64   `json:"working_bytes"`         // of the engine besides weights and KV cache, with all entries of the vocabulary
	Dense      int64   `json:"dense_bytes"`           // that the dense model needs
	Room       int64   `json:"room_bytes"`            // for weights and KV cache, and where Entry is set for the logits
	Entry      int64   `json:"entry_bytes,omitempty"` // of the engine for each entry of the vocabulary, which count toward the room
	Entries    int     `json:"vocabulary"`            // of the dense model
	Vocab      string  `json:"vocab,omitempty"`       // how many of them are kept, or auto; "" for all
	WholeVocab string  `json:"whole_vocab,omitempty"` // why all have to be kept, where they do
	Speed      float64 `json:"speed,omitempty"`
	DenseSpeed float64 `json:"dense_speed,omitempty"` // measured, tokens per second
	Target     string  `json:"target,omitempty"`      // "" where the model itself fits

	asked   FitAsked
	widths  bool  // are chosen
	besides int64 // what the engine needs besides the room
	takes   int64 // what the dense model takes of what the room is for
}

// Besides is the memory that the engine needs besides what the plan chooses.
func (p FitPlan) Besides() int64 { return p.besides }

// DefaultVocab is the size of the vocabulary where none is asked for: chosen together with widths and types, if the model's can be trimmed.
func DefaultVocab(m explorer.ModelInfo) explorer.VocabSize {
	return explorer.VocabSize{Auto: m.WholeVocab == ""}
}

// PlanFit plans a file. denseSpeed is how many tokens per second the dense model generates, which counts where a speed is asked for. Its error wraps
// explorer.ErrInvalid.
func PlanFit(s *explorer.Snapshot, asked FitAsked, denseSpeed float64) (FitPlan, error) {
	if asked.Limit <= 0 || asked.Context <= 0 || asked.Speed < 0 {
		return FitPlan{}, fmt.Errorf("%w: %d bytes of memory, %d tokens of context, %g tokens per second", explorer.ErrInvalid, asked.Limit, asked.Context, asked.Speed)
	}
	m := s.Model
	dense := subnet.Dense(m.Geometry)
	p := FitPlan{
		Limit: asked.Limit, Context: asked.Context, Working: workingBytes(m.Geometry, m.Geometry.Vocab), Dense: MemoryFor(m, dense, asked.Context),
		Entries: m.Geometry.Vocab, Vocab: asked.Vocab.String(), WholeVocab: m.WholeVocab, Speed: asked.Speed, DenseSpeed: denseSpeed, asked: asked,
		widths: m.Geometry.Limits().PerLayer, // other families have the same in all layers
	}
	weights, cache := m.FileSize(dense, "").Tensors, dense.Size().KVBytes(asked.Context)
	p.besides = p.Working
	if p.takes = weights + cache; asked.Vocab.On() { // whose logits take less with fewer entries
		p.besides, p.Entry = activationBytes(m.Geometry), logitBytes
		p.takes += logitBytes * int64(p.Entries)
	}
	if p.Room = asked.Limit - p.besides; p.Room <= 0 {
		return p, fmt.Errorf("%w: the engine needs %s besides weights and KV cache, more than %s", explorer.ErrInvalid, format.Bytes(p.besides), format.Bytes(asked.Limit))
	}
	if asked.Speed > 0 && denseSpeed > 0 && denseSpeed < asked.Speed { // generating a token reads all weights once
		allowed := int64(float64(weights) * denseSpeed / asked.Speed)
		if float64(allowed) < leastWeights*float64(weights) {
			return p, fmt.Errorf("%w: the model generates %.1f tokens per second; for %g its weights may take %s of %s, less than any subnet", explorer.ErrInvalid,
				denseSpeed, asked.Speed, format.Bytes(allowed), format.Bytes(weights))
		}
		if room := allowed + cache; room <= asked.Limit-p.Working { // the memory does not bound it
			p.Room, p.Entry, p.takes, p.besides = room, 0, weights+cache, p.Working
		}
	}
	if p.Room < p.takes {
		p.Target = p.target(p.Room).Text()
	}
	return p, nil
}

func (p FitPlan) target(room int64) search.Target {
	return search.Target{Measure: search.Memory, Value: float64(room), Context: p.Context}
}

// Command returns what makes a subnet for the plan, of a share of its room.
func (p FitPlan) Command(share float64) explorer.Quantize {
	return explorer.Quantize{
		Subnet: explorer.DenseID, Widths: p.widths, Target: p.target(int64(share * float64(p.Room))), EntryBytes: p.Entry, Vocab: p.asked.Vocab, Seed: 1,
		Name: fmt.Sprintf("fit %s@%d", format.Bytes(p.Limit), p.Context),
	}
}

// Words returns what is expected, in paragraphs.
func (p FitPlan) Words() []string {
	out := []string{fmt.Sprintf("the model needs %s with %d tokens of context, of which the engine takes %s besides weights and KV cache; %s are allowed",
		format.Bytes(p.Dense), p.Context, format.Bytes(p.Working), format.Bytes(p.Limit))}
	if p.DenseSpeed > 0 {
		out = append(out, fmt.Sprintf("it generates %.1f tokens per second here; %.1f are asked for", p.DenseSpeed, p.Speed))
	}
	vocab := p.asked.Vocab
	switch {
	case p.Target == "" && (vocab.Keep != 0 || vocab.Share != 0):
		return append(out, fmt.Sprintf("expected: the model itself fits and is written with its weights as they are and a vocabulary of %s", sizeWords(vocab)))
	case p.Target == "":
		return append(out, "expected: the model itself fits and is written as it is")
	}
	out = append(out, "expected: "+p.chosen()+"; that measures what they cost, re-fits once, and takes some minutes for each 100 million parameters on two cores")
	switch {
	case vocab.Auto:
		out = append(out, fmt.Sprintf("of the %d tokens of the vocabulary those stay that pay for their bytes on the calibration texts; texts in other languages "+
			"become longer, and --vocab all keeps every token", p.Entries))
	case vocab.On():
		out = append(out, fmt.Sprintf("the vocabulary is trimmed from %d tokens to %s", p.Entries, sizeWords(vocab)))
	case p.WholeVocab != "":
		out = append(out, "the vocabulary stays whole: "+p.WholeVocab)
	}
	return out
}

// chosen describes what is chosen, and for how many bytes.
func (p FitPlan) chosen() string {
	chosen, of := "types", "weights and KV cache"
	switch auto := p.asked.Vocab.Auto; {
	case p.widths && auto:
		chosen = "widths, types and the vocabulary"
	case p.widths:
		chosen = "widths and types"
	case auto:
		chosen = "types and the vocabulary"
	}
	if p.Entry > 0 {
		of = "weights, KV cache and logits"
	}
	return fmt.Sprintf("%s are chosen for %s of %s, %.0f %% of what they take now", chosen, format.Bytes(p.Room), of, 100*float64(p.Room)/float64(p.takes))
}

// Brief returns what is expected in one sentence.
func (p FitPlan) Brief() string {
	if p.Target == "" {
		return "the model itself fits: it needs " + format.Bytes(p.Dense)
	}
	return p.chosen()
}

// sizeWords describes a size of the vocabulary that is not chosen.
func sizeWords(v explorer.VocabSize) string {
	if v.Share > 0 {
		return fmt.Sprintf("those that make up %g of the texts", v.Share)
	}
	return fmt.Sprintf("%d tokens", v.Keep)
}
