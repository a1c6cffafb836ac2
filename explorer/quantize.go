package explorer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// Quantize makes a subnet whose file or memory fits a size: the types of its matrices, and where Widths is set its widths, are chosen by
// their measured losses, and its output matrices are re-fitted to the rounded ones before them.
type Quantize struct {
	Subnet SubnetID // whose masks are kept; DenseID for the model. Not with Widths.
	// Widths has widths of MLPs and KV groups chosen too, as by the one-shot method Preset.
	Widths      bool
	Target      search.Target // a size or a memory
	Types       []string      // that may be chosen besides those of the source; nil is all that fit
	Compensate  *bool         // compensate rounding errors of output matrices in later columns; nil is yes
	Inner       *bool         // the same of all other matrices in the layers; nil is yes
	Vocab       VocabSize     // the size of the vocabulary, or that it is chosen too; the zero value keeps that of Subnet
	EntryBytes  int64         // what running takes for each entry of the vocabulary besides weights, which counts toward a target in memory
	Preset      string
	Attention   *bool // whether KV groups are dropped too; nil leaves it to the preset
	Granularity int   // step of MLP widths; 0 is the default
	Calibration Calibration
	Reform      ReformOptions
	Seed        uint64
	Name        string
}

func (Quantize) needs() needs { return aChange }

// check returns the first setting that is not valid.
func (c Quantize) check(s *Snapshot) error {
	errs := []error{c.Target.Check(), c.Calibration.check(), checkPreset(cmp.Or(c.Preset, Presets()[0])), c.Reform.check(), c.Reform.checkTarget(s.Model.Geometry), checkGranularity(s.Model.Geometry, c.Granularity)}
	if c.Target.Measure != search.Bytes && c.Target.Measure != search.Memory || c.Target.Type != "" {
		errs = append(errs, fmt.Errorf("%w: the target is %s, not a size such as 60MB or a memory such as memory=512MB@4096, without a type", ErrInvalid, TargetName(c.Target)))
	}
	if c.Widths && c.Subnet != DenseID {
		errs = append(errs, fmt.Errorf("%w: widths are chosen for the dense model, not for %s", ErrInvalid, c.Subnet))
	}
	if c.Widths && !s.Model.Geometry.Limits().PerLayer {
		errs = append(errs, fmt.Errorf("%w: files of %s models have the same widths in all layers, which are not chosen for a size: lathe quantize chooses types and the vocabulary", ErrUnsupported, s.Model.Arch))
	}
	if masks, err := s.Masks(c.Subnet); err == nil && c.Vocab.On() && masks.TrimsVocab() {
		errs = append(errs, fmt.Errorf("%w: %s keeps %d tokens of the vocabulary already", ErrInvalid, s.label(c.Subnet), masks.VocabLen()))
	}
	errs = append(errs, c.Vocab.optional(s.Model.Geometry))
	if c.Reform.Up != nil && *c.Reform.Up > 0 {
		errs = append(errs, fmt.Errorf("%w: W_U is not re-fitted when matrices are rounded", ErrInvalid))
	}
	if c.Reform.Gradient != nil && *c.Reform.Gradient > 0 {
		errs = append(errs, fmt.Errorf("%w: matrices are not re-fitted by gradient when they are rounded", ErrInvalid))
	}
	for _, name := range c.Types {
		if _, err := subnet.ParseType(name); err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrInvalid, err))
		}
	}
	if _, err := s.Masks(c.Subnet); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Quantize) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	if err := c.check(s); err != nil {
		return Receipt{}, err
	}
	masks, err := s.Masks(c.Subnet)
	if err == nil {
		err = e.checkCalibration(c.Calibration)
	}
	if err == nil {
		err = e.model.CheckSize(masks, c)
	}
	if err != nil {
		return Receipt{}, err
	}
	title := fmt.Sprintf("%s as %s", s.label(c.Subnet), TargetName(c.Target))
	if c.Widths {
		title = "cut to " + TargetName(c.Target)
	}
	return e.launch(a, jobs.Foreground, JobQuantize, title, func(ctx context.Context, m *monitor) error { return e.quantize(ctx, a, c, m) })
}

func (e *Exploration) quantize(ctx context.Context, a Actor, c Quantize, m *monitor) error {
	s := e.Snapshot()
	from, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return err
	}
	if c.Calibration.Seed == 0 {
		c.Calibration.Seed = c.Seed
	}
	e.begin(m, c.Subnet, Method{Preset: c.Preset, Goal: c.Target.Text(), Reform: c.Reform.Method})
	made, err := e.model.Quantize(ctx, from, c, e.folder("statistics"), m)
	if err != nil {
		return err
	}
	n := Subnet{Name: c.Name, Origin: Quantized, Parent: c.Subnet}
	if c.Widths {
		n.Origin, n.Parent = OneShot, ""
	}
	switch c.Subnet {
	case DenseID:
		n.Parent = ""
	case DraftID:
		n.Parent = s.Draft.Base
	}
	if n.Name == "" {
		n.Name = fmt.Sprintf("%s %s", n.Origin, TargetName(c.Target))
	}
	return m.Persist(ctx, func() error { return e.keep(a, m, made, n) })
}

// Typed records how types were chosen for a size.
type Typed struct {
	Matrices  map[string]int `json:"matrices"`             // how many have each type
	Predicted float64        `json:"predicted"`            // divergence from the dense model by which they were chosen, nats per token
	Measured  float64        `json:"divergence,omitempty"` // of the rounded subnet on held-out text; 0 if it was not measured
	// Compensated is whether rounding errors of output matrices were compensated in later columns.
	Compensated bool `json:"compensated,omitempty"`
	// Inner is whether those of all other matrices in the layers were.
	Inner bool `json:"compensated_inner,omitempty"`
}

// AutoTypes reports whether a list of types stands for all that fit.
func AutoTypes(names []string) bool {
	return len(names) == 1 && strings.EqualFold(names[0], AutoTypeName)
}

// AutoTypeName stands for all types that fit.
const AutoTypeName = "auto"

// TypesText describes the types of a subnet's matrices in a line: the number of matrices of each, the most frequent first. It is "" for a
// subnet with the types of the source.
func (n Subnet) TypesText() string {
	if n.Types == nil {
		return ""
	}
	count := make(map[string]int)
	if t := n.Method.Typed; t != nil {
		maps.Copy(count, t.Matrices)
	} else {
		for _, t := range n.Types {
			count[t.String()]++
		}
	}
	names := slices.SortedFunc(maps.Keys(count), func(a, b string) int { return cmp.Or(count[b]-count[a], strings.Compare(a, b)) })
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%d %s", count[name], name)
	}
	return strings.Join(parts, ", ")
}

// TypeNames returns the types of the subnet's matrices by their tensors, nil for those of the source.
func (n Subnet) TypeNames() map[string]string { return typeNames(n.Types) }

// Refitted reports whether the subnet has re-fitted weights, and not only types of its own.
func (n Subnet) Refitted() bool {
	return n.Refit != "" && (n.Types == nil || n.Method.Reform != "none" && n.Method.Kept != KeptOriginal)
}

// typeNames returns types as records hold them.
func typeNames(types map[string]subnet.Type) map[string]string {
	if types == nil {
		return nil
	}
	out := make(map[string]string, len(types))
	for tensor, t := range types {
		out[tensor] = t.String()
	}
	return out
}

// parseTypes is the inverse of typeNames.
func parseTypes(names map[string]string) (map[string]subnet.Type, error) {
	if names == nil {
		return nil, nil
	}
	out := make(map[string]subnet.Type, len(names))
	for tensor, name := range names {
		t, err := subnet.ParseType(name)
		if err != nil {
			return nil, fmt.Errorf("%w: tensor %.100q: %w", ErrDamaged, tensor, err)
		}
		out[tensor] = t
	}
	return out, nil
}
