package gguf

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// ErrMismatch is wrapped by [Verification.Err]: a file is not the subnet that its metadata describe.
var ErrMismatch = errors.New("does not match its metadata")

// VerifyOptions are the options of [Verify].
type VerifyOptions struct {
	// Source is the model that the file was cut from. Without it only the metadata and the shapes are checked.
	Source *File
	// Distributions runs the file and compares what it computes with what it should, given its masks; nil skips that. It returns the checks that
	// it made.
	Distributions func(ctx context.Context, masks subnet.Masks) ([]Finding, error)
	// Progress is called from time to time, by one goroutine at a time, with the bytes of tensors compared so far and in total; nil for none.
	Progress func(done, total int64)
}

// Outcome is the outcome of a check of [Verify].
type Outcome string

// The outcomes of a check. Skipped is for one that needs something that was not given.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Finding is one check of [Verify].
type Finding struct {
	Check   string  `json:"check"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
}

// Change is a tensor that differs from the columns of the source, as after re-fitting.
type Change struct {
	Tensor string `json:"tensor"`
	// Relative is the Frobenius norm of the difference over that of the kept columns of the source; 1 for a bias that the source lacks.
	Relative float64 `json:"relative"`
}

// Verification is the result of [Verify].
type Verification struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Arch   string `json:"architecture"`
	// Source and SourceSHA256 name the model that the file was cut from, by its metadata.
	Source       string  `json:"source"`
	SourceSHA256 string  `json:"source_sha256"`
	Ratio        float64 `json:"ratio"`
	// Zeroed reports whether the file has the shapes of the dense model.
	Zeroed   bool         `json:"zeroed"`
	Masks    subnet.Masks `json:"-"`
	Findings []Finding    `json:"findings"`
	// Exact counts the tensors with the same bytes as a cut of the source, Rounded those that differ only by rounding. Refitted lists the
	// output matrices, biases and norms that changed.
	Exact    int      `json:"exact_tensors"`
	Rounded  int      `json:"rounded_tensors,omitempty"`
	Refitted []Change `json:"refitted,omitempty"`

	normsRefitted bool // the metadata states that norms were changed
	innerRefitted bool // the same of W_Q, W_K, W_V and W_G
	mixed         bool // the metadata states that matrices have types of their own
}

// OK reports whether no check failed.
func (v *Verification) OK() bool {
	return !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Outcome == Failed })
}

// Err returns nil where no check failed, else an error that wraps [ErrMismatch] and lists those that did.
func (v *Verification) Err() error {
	var failed []string
	for _, f := range v.Findings {
		if f.Outcome == Failed {
			failed = append(failed, f.Check+": "+f.Detail)
		}
	}
	if failed == nil {
		return nil
	}
	return fmt.Errorf("gguf: %s: %w: %s", v.Path, ErrMismatch, strings.Join(failed, "; "))
}

func (v *Verification) add(check string, outcome Outcome, format string, args ...any) {
	v.Findings = append(v.Findings, Finding{check, outcome, fmt.Sprintf(format, args...)})
}

// Verify checks a file written by [WriteSubnet]: that its provenance is complete and its shapes are those of its masks. With the source, it
// also checks that the file was cut from that model, and that every tensor holds the numbers of the source where the masks keep them and
// zeros elsewhere. Unchanged rows must be equal to the last bit, as must columns that are quantised again; output matrices and biases may have
// been re-fitted, and are then listed with the size of the change.
//
// A failed check is a [Finding], see [Verification.Err]. The error is for checks that could not be made: it wraps [ErrMissing] for a file
// without provenance, or is that of the operating system or of the context.
func Verify(ctx context.Context, f *File, o VerifyOptions) (Verification, error) {
	v := Verification{Path: f.path}
	text, ok := f.KV().String(provenancePrefix + "masks")
	if !ok {
		return v, fmt.Errorf("gguf: %s: key %q: %w: the file has no masks", f.path, provenancePrefix+"masks", ErrMissing)
	}
	var err error
	if v.SHA256, err = f.SHA256(ctx); err != nil {
		return v, err
	}
	if !v.provenance(f, text) {
		return v, nil
	}
	config, err := f.Config()
	if err != nil {
		v.add("shapes", Failed, "%v", err)
		return v, nil
	}
	v.Arch = config.Arch
	if !v.shapes(&config) {
		return v, nil
	}
	if o.Source == nil {
		v.add("source", Skipped, "no source is given")
	} else if ok, err := v.source(ctx, o.Source); err != nil || !ok {
		return v, err
	} else if err := v.compare(ctx, f, &config, o); err != nil {
		return v, err
	} else {
		v.vocabulary(f, o.Source)
	}
	return v, v.distributions(ctx, o)
}

// compare compares the tensors with the source's. Where the counts fit both a compact file and one with zeros in the positions of dropped
// units, it tries the compact one first.
func (v *Verification) compare(ctx context.Context, f *File, c *Config, o VerifyOptions) error {
	before := slices.Clip(v.Findings)
	err := v.tensors(ctx, f, c, o)
	if err != nil || v.OK() || v.Zeroed || v.Masks.Geometry().Arch != c.Arch || differs(c, zeroedCut(v.Masks)) != "" {
		return err
	}
	zeroed := *v
	zeroed.Findings, zeroed.Zeroed = before, true
	zeroed.Exact, zeroed.Rounded, zeroed.Refitted = 0, 0, nil
	if err := zeroed.tensors(ctx, f, c, o); err != nil {
		return err
	}
	if zeroed.OK() {
		*v = zeroed
	}
	return nil
}

// provenance reads and checks the provenance. It reports whether the other checks can be made.
func (v *Verification) provenance(f *File, text string) bool {
	kv := f.KV()
	v.Source, _ = kv.String(provenancePrefix + "source")
	v.SourceSHA256, _ = kv.String(provenancePrefix + "source_sha256")
	v.Ratio, _ = kv.Float(provenancePrefix + "ratio")
	if err := v.Masks.UnmarshalText([]byte(text)); err != nil {
		v.add("provenance", Failed, "%smasks: %v", provenancePrefix, err)
		return false
	}
	if b, err := hex.DecodeString(v.SourceSHA256); err != nil || len(b) != 32 {
		v.add("provenance", Failed, "%ssource_sha256 is not a hash: %.80q", provenancePrefix, v.SourceSHA256)
		return false
	}
	if want := v.Masks.Size().Ratio; v.Ratio != want {
		v.add("provenance", Failed, "%sratio is %v, the masks keep %v", provenancePrefix, v.Ratio, want)
		return true
	}
	v.add("provenance", Passed, "cut from %s, %.4f of its block parameters kept", v.Source, v.Ratio)
	return true
}

// shapes compares the counts in the header with those of the masks.
func (v *Verification) shapes(c *Config) bool {
	cut := v.Masks.Cut()
	compact := differs(c, cut)
	if compact == "" {
		v.add("shapes", Passed, "%d layers with heads of %d, as in the masks", len(c.Layers), c.HeadDim)
		return true
	}
	g := v.Masks.Geometry()
	if g.Arch == c.Arch && differs(c, zeroedCut(v.Masks)) == "" {
		v.Zeroed = true
		v.add("shapes", Passed, "%d layers with heads of %d, as in the dense model: dropped units are zeros", len(c.Layers), c.HeadDim)
		return true
	}
	v.add("shapes", Failed, "%s", compact)
	return false
}

// differs describes the first count of a file that is not that of a cut, "" for none. The file may have one layer more, in front, for the
// biases of dropped ones.
func differs(c *Config, cut subnet.Cut) string {
	layers := c.Layers
	if len(layers) == len(cut.Layers)+1 && c.OutBias && layers[0] == (subnet.LayerGeometry{Heads: 1, KVHeads: 1, FFN: subnet.MinChannels}) {
		layers = layers[1:]
	}
	if c.Vocab != cut.Vocab {
		return fmt.Sprintf("a vocabulary of %d, the masks need %d", c.Vocab, cut.Vocab)
	}
	if len(layers) != len(cut.Layers) || c.HeadDim != cut.HeadDim {
		return fmt.Sprintf("%d layers with heads of %d, the masks need %d with heads of %d", len(c.Layers), c.HeadDim, len(cut.Layers), cut.HeadDim)
	}
	for i, l := range cut.Layers {
		want := subnet.LayerGeometry{Heads: len(l.Heads), KVHeads: len(l.Groups), FFN: len(l.Channels)}
		if layers[i] != want {
			return fmt.Sprintf("layer %d has %d query heads, %d KV heads and %d MLP channels, the masks need %d, %d and %d",
				i+len(c.Layers)-len(layers), layers[i].Heads, layers[i].KVHeads, layers[i].FFN, want.Heads, want.KVHeads, want.FFN)
		}
	}
	return ""
}

// source compares the source with the one that the file names.
func (v *Verification) source(ctx context.Context, source *File) (bool, error) {
	hash, err := source.SHA256(ctx)
	if err != nil {
		return false, err
	}
	if hash != v.SourceSHA256 {
		v.add("source", Failed, "the file was cut from %s with hash %.12s…, %s has %.12s…", v.Source, v.SourceSHA256, source.path, hash)
		return false, nil
	}
	v.add("source", Passed, "%s has the hash that the file names", source.path)
	return true, nil
}

// distributions runs the checks of the caller.
func (v *Verification) distributions(ctx context.Context, o VerifyOptions) error {
	if o.Distributions == nil || !v.OK() {
		v.add("distributions", Skipped, "not run")
		return nil
	}
	found, err := o.Distributions(ctx, v.Masks)
	v.Findings = append(v.Findings, found...)
	return err
}

// vocabulary compares the tables of a tokenizer whose entries were dropped with those that the masks lead to. Chat templates may be others.
func (v *Verification) vocabulary(f, source *File) {
	if !v.Masks.TrimsVocab() {
		return
	}
	want, err := source.trimmed(v.Masks.Vocab().Indices())
	if err != nil {
		v.add("vocabulary", Failed, "%v", err)
		return
	}
	isTable := func(key string) bool {
		return strings.HasPrefix(key, tokenizerPrefix) && !strings.Contains(key, "chat_template")
	}
	for _, key := range slices.Concat(want.keys, f.KV().keys) {
		if a, b := want.values[key], f.KV().values[key]; isTable(key) && !reflect.DeepEqual(a, b) {
			v.add("vocabulary", Failed, "key %q is not what the source has for the kept tokens", key)
			return
		}
	}
	v.add("vocabulary", Passed, "%d of %d tokens, their merges and numbers", v.Masks.VocabLen(), v.Masks.Geometry().Vocab)
}
