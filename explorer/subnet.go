package explorer

import (
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// SubnetID names a subnet within its workspace. [DenseID] is the model itself, [DraftID] the draft.
type SubnetID string

// The two subnets that always exist.
const (
	DenseID SubnetID = "dense"
	DraftID SubnetID = "draft"
)

// Origin is how a subnet was made.
type Origin string

// The origins of a subnet.
const (
	OneShot  Origin = "one-shot" // a preset's choice at a given ratio
	Searched Origin = "searched" // adopted from a search
	Edited   Origin = "edited"   // made by hand in the mask editor
	Reformed Origin = "reformed" // another subnet with its weights re-fitted
	Imported Origin = "imported" // read from a file made elsewhere
	Trimmed  Origin = "trimmed"  // another subnet with a smaller vocabulary
	// Quantized is another subnet, or the model, with types chosen for a size.
	Quantized Origin = "quantized"
)

// A Subnet is an entry of the library: masks, perhaps with re-fitted weights, and what is known about them.
type Subnet struct {
	ID      SubnetID
	Name    string
	Origin  Origin
	Parent  SubnetID // the subnet it was edited, reformed or duplicated from; "" if none
	Author  string
	Created time.Time
	Method  Method // how masks and weights were chosen
	Masks   subnet.Masks
	Size    subnet.Size
	// Types are those of matrices by the names of tensors of the model, as in [gguf.Subnet]; nil for those of the source.
	Types      map[string]subnet.Type
	Bytes      int64  // of the file in these types, 0 if unknown
	Refit      string // file of the re-fitted weights, relative to the workspace; "" if the original weights are used
	RefitBytes int64
	Note       string
	HeldOut    HeldOut
	// Measurements, newest first. Compare only those whose Conditions are equal.
	Measurements []Measurement
	Deleted      time.Time // zero unless in the trash
}

// HeldOutTokens is the number of tokens at the end of a text, outside the calibration, on which a new subnet is measured.
const HeldOutTokens = 1024

// HeldOut is the first measurement of a subnet: its perplexity on the last [HeldOutTokens] tokens, one window, of the text
// it was calibrated on, and the dense model's on the same tokens. It shows the effect of the re-fit. Perplexities do not
// compare with those of measurements, whose text is longer and another. Values are 0 where nothing was measured.
type HeldOut struct {
	Unfitted   float64 `json:"perplexity_unfitted,omitempty"` // with the original weights
	Perplexity float64 `json:"perplexity,omitempty"`
	Dense      float64 `json:"dense_perplexity,omitempty"`
	// Rejected is the perplexity with re-fitted weights that were worse than those the subnet has.
	Rejected float64 `json:"perplexity_rejected,omitempty"`
	// General and GeneralDense are the perplexities of the subnet and the dense model on the default text, where another one
	// was calibrated on.
	General      float64 `json:"general_perplexity,omitempty"`
	GeneralDense float64 `json:"general_dense_perplexity,omitempty"`
}

// Relative is the perplexity over that of the dense model on the same tokens, or 0 if that is unknown.
func (h HeldOut) Relative() float64 {
	if h.Dense <= 0 {
		return 0
	}
	return h.Perplexity / h.Dense
}

// WorseBy is the factor in perplexity from which on a re-fit counts as worse than the weights that it would replace and than the
// dense model: less is within what [HeldOutTokens] tokens tell apart.
const WorseBy = 1.01

// The values of [Method.Kept] of a subnet whose re-fit was worse than the weights that it would have replaced.
const (
	KeptOriginal = "original" // those of the dense model
	KeptPrevious = "previous" // re-fitted earlier
)

// A Figure is the quality of a subnet as lists show it: one number for each subnet, the same everywhere.
type Figure struct {
	Relative   float64 // perplexity over that of the dense model on the same tokens; 0 if unknown
	Perplexity float64 // 0 if the subnet was not measured
	Text       string  // path of the text, "" for the default one
	Tokens     int     // that were scored
}

// Figure returns the newest measurement that the dense model was measured under the conditions of, else the held-out figure
// of its making, else the newest measurement.
func (n Subnet) Figure() Figure {
	measured := func(m Measurement) Figure {
		return Figure{m.Relative(), m.Perplexity, m.Conditions.Text.Path, m.Conditions.Tokens}
	}
	for _, m := range n.Measurements {
		if m.Relative() > 0 {
			return measured(m)
		}
	}
	if n.HeldOut.Perplexity > 0 && (n.HeldOut.Dense > 0 || len(n.Measurements) == 0) {
		return Figure{n.HeldOut.Relative(), n.HeldOut.Perplexity, n.Method.Text.Path, HeldOutTokens - 1}
	}
	if len(n.Measurements) > 0 {
		return measured(n.Measurements[0])
	}
	return Figure{}
}

// Method records how a subnet was made, in full: with the text at hand it can be made again.
type Method struct {
	Preset string  `json:"preset,omitempty"` // one-shot preset or search strategy
	Target float64 `json:"target,omitempty"` // inheriting ratio asked for, over block parameters
	Goal   string  `json:"goal,omitempty"`   // target of a search that was no ratio, as [search.ParseTarget] reads it
	Reform string  `json:"reform,omitempty"` // "exact", "admm", "none"
	// Attention is whether KV groups could be dropped too, and Granularity the step of MLP widths.
	Attention   bool `json:"attention,omitempty"`
	Granularity int  `json:"granularity,omitempty"`
	// FitTarget is what the re-fit reproduced: local, dense or residual outputs; "" in entries from before it was recorded.
	FitTarget string `json:"fit_target,omitempty"`
	// Lambda is the ridge, relative to the mean diagonal of H; nil where each block's was chosen among the preset's.
	Lambda *float64 `json:"lambda,omitempty"`
	Pull   bool     `json:"pull,omitempty"`   // ridge pulls toward the original weights instead of zero
	Kept   string   `json:"kept,omitempty"`   // KeptOriginal or KeptPrevious: the re-fit was worse on held-out text and its weights were dropped
	Bias   bool     `json:"bias,omitempty"`   // a bias compensates for the means of dropped units
	Bridge bool     `json:"bridge,omitempty"` // the last MLPs before dropped layers reproduce the hidden states behind them
	Weigh  string   `json:"weigh,omitempty"`  // what tokens counted by in the re-fit, "" in entries from before it was recorded
	Rho    float64  `json:"rho,omitempty"`    // ADMM's penalty, relative to the mean diagonal of H
	Steps  int      `json:"steps,omitempty"`  // ADMM's steps
	Up     int      `json:"up,omitempty"`     // steps by which W_U was re-fitted, 0 when it was not
	// Gradient is the most steps by which all matrices of modules were re-fitted, 0 for none.
	Gradient int    `json:"gradient_steps,omitempty"`
	Tune     *Tuned `json:"tune,omitempty"`  // what tuning did, nil without
	Vocab    *Vocab `json:"vocab,omitempty"` // how the vocabulary was trimmed, nil where all of it is kept
	// Plain is the best plain type within the target, nil where there was none or types were not searched.
	Plain *PlainRival `json:"plain,omitempty"`
	Typed *Typed      `json:"types,omitempty"` // how types were chosen, nil for those of the source
	Text  TextRef     `json:"text,omitzero"`   // calibration text
	// Mix has the texts of a mix, nil for a single text. Text describes the mix, and its hash is that of all of them.
	Mix     []MixPart `json:"mix,omitempty"`
	Draw    string    `json:"draw,omitempty"`    // DrawWhole or DrawStart; "" is DrawStart
	Windows int       `json:"windows,omitempty"` // calibration windows
	Drawn   int       `json:"drawn,omitempty"`   // windows that were drawn, of which the first were used; 0 if all were
	Seq     int       `json:"seq,omitempty"`     // tokens per window
	Seed    uint64    `json:"seed,omitempty"`    // of everything random
	Tokens  int64     `json:"tokens,omitempty"`  // tokens computed by the search that found it
	Seconds float64   `json:"seconds,omitempty"` // wall time to make it
	Backend string    `json:"backend,omitempty"` // what computed it
	// Algebra is what computed the linear algebra of choosing units and re-fitting: "go" or "xla"; "" in entries from before it was
	// recorded.
	Algebra string `json:"linear_algebra,omitempty"`
	// ComputeType is the type of the weights that it was computed with; "" is f32.
	ComputeType string `json:"compute_type,omitempty"`
	// AtOnce is how many windows a graph was told to compute at once; 0 is the device's own number.
	AtOnce int `json:"at_once,omitempty"`
}

// AimedAt returns the method with the target of a search.
func (m Method) AimedAt(t search.Target) Method {
	m.Target, m.Goal = t.Share(), ""
	if t.Measure != search.Params {
		m.Goal = t.Text()
	}
	return m
}

// TargetName returns a target in few letters: 0.80, 80MB.
func TargetName(t search.Target) string {
	if t.Measure == search.Params {
		return fmt.Sprintf("%.2f", t.Value)
	}
	return t.Text()
}

// TextRef names a text and pins its content.
type TextRef struct {
	Path   string `json:"path,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of the content, hexadecimal
}

// Conditions are what a measurement was taken under. Two measurements are comparable when theirs are equal.
type Conditions struct {
	Text    TextRef `json:"text"`
	Seq     int     `json:"seq"`     // tokens per window
	Windows int     `json:"windows"` // consecutive windows from the start of the text; 0 = all
	Tokens  int     `json:"tokens"`  // tokens scored: the first of each window is not
	BOS     bool    `json:"bos"`     // a start token is in front of windows
	// Starts is BOSEvery where each window begins with the start token, "" where the text does, if at all.
	Starts string `json:"starts,omitempty"`
	// Stride is the number of tokens from one window to the next where windows overlap, 0 where they do not. Tokens that an earlier
	// window scored are context only.
	Stride int    `json:"stride,omitempty"`
	Engine string `json:"engine"`          // what scored: "llama.cpp", "decoder"
	Type   string `json:"type"`            // tensor type of the scored weights: "Q4_1", "F16", …
	Ratio  string `json:"ratio"`           // definition of the ratio: always "block parameters"
	Vocab  int    `json:"vocab,omitempty"` // entries of a vocabulary that was trimmed, 0 for the model's own
	// ComputeType is the type of the weights that the decoder computed with; "" is f32.
	ComputeType string `json:"compute_type,omitempty"`
}

// MixedTypes stands for the types of a subnet whose matrices have types of their own, in [Conditions].Type.
const MixedTypes = "mixed types"

// Where start tokens are, in [ScoreRequest] and [Measure].
const (
	BOSAuto  = quality.BOSAuto // the default, also for ""
	BOSEvery = quality.BOSEvery
	BOSFirst = quality.BOSFirst
	BOSNone  = quality.BOSNone
	// BOSAutoFirst is BOSFirst where the tokenizer adds start tokens, and BOSNone elsewhere: as most papers measure.
	BOSAutoFirst = quality.BOSAutoFirst
)

// Start returns where start tokens were: BOSEvery, BOSFirst or BOSNone.
func (c Conditions) Start() string {
	switch {
	case !c.BOS:
		return BOSNone
	case c.Starts == BOSEvery:
		return BOSEvery
	}
	return BOSFirst
}

// A Measurement is a quality figure with the conditions it holds under.
type Measurement struct {
	Conditions Conditions `json:"conditions"`
	NLL        float64    `json:"nll"`        // mean negative log-likelihood, nats per token
	Perplexity float64    `json:"perplexity"` // exp(NLL)
	// StandardError is that of Perplexity, tokens taken as independent; 0 if unknown.
	StandardError float64 `json:"standard_error,omitempty"`
	Dense         float64 `json:"dense,omitempty"` // perplexity of the dense model under the same conditions; 0 if unknown
	Bytes         int64   `json:"bytes,omitempty"` // of the scored tokens; 0 if unknown
	// DenseBits is the dense model's bits per byte on the text, for a vocabulary that was trimmed; 0 if unknown.
	DenseBits float64 `json:"dense_bits_per_byte,omitempty"`
	// Distance is how far the distributions are from another model's; nil if they were not compared.
	Distance *Distance `json:"distance,omitempty"`
	Share    float64   `json:"share"` // parameters kept, over block parameters
	At       time.Time `json:"at"`
	Seconds  float64   `json:"seconds"`
	By       string    `json:"by,omitempty"`
}

// A Distance is how far a model's distributions of the next token are from a reference's, mostly those of the dense model.
type Distance struct {
	From string `json:"from"` // AgainstDense, or the name of a model file
	// KL is the mean divergence of the model from the reference, nats per token: over the reference's 256 most likely tokens one by
	// one and all others together.
	KL      float64 `json:"kl"`
	KLError float64 `json:"kl_standard_error"`
	// Agreement is the share of tokens where both find the same token most likely.
	Agreement      float64 `json:"top1_agreement"`
	AgreementError float64 `json:"top1_agreement_standard_error"`
	// Reference is the reference's perplexity on the same tokens; Relative is the model's over it, with the error of the paired difference.
	Reference     float64 `json:"reference_perplexity"`
	Relative      float64 `json:"perplexity_relative"`
	RelativeError float64 `json:"perplexity_relative_standard_error"`
}

// Relative is the perplexity over that of the dense model under the same conditions, or 0 if that is unknown. With a trimmed vocabulary it
// is computed from the bits per byte of both.
func (m Measurement) Relative() float64 {
	if m.Conditions.Vocab > 0 {
		return m.relativeOfBits()
	}
	if m.Dense <= 0 {
		return 0
	}
	return m.Perplexity / m.Dense
}
