package explorer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// recipeFormat names the format and its version.
const recipeFormat = "lathe-recipe 1"

// maxRecipe bounds a recipe that is read, in bytes.
const maxRecipe = subnet.MaxText + 1<<20

// A Recipe contains what it takes to rebuild a subnet's file from the dense model: masks, settings, seed and the hashes of
// all inputs, but no weights. It is small enough to mail.
type Recipe struct {
	Format  string    `json:"format"`
	Name    string    `json:"name"`
	Note    string    `json:"note,omitempty"`
	Created time.Time `json:"created"`
	Source  Source    `json:"source"`
	Masks   string    `json:"masks"`  // text form
	Method  Method    `json:"method"` // Reform "" or "none": the original weights are kept
	Type    string    `json:"type"`   // tensor type of the file; "" as the source
	// Result is the SHA-256 of the file that the author of the recipe built, if it was built.
	Result string `json:"result_sha256,omitempty"`
	// Share, the inheriting ratio, and Measurements are informative.
	Share        float64       `json:"share"`
	Measurements []Measurement `json:"measurements,omitempty"`
}

// Source is the dense model of a recipe.
type Source struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// rebuildable reports whether a subnet's file can be rebuilt from its entry.
func rebuildable(n Subnet) bool {
	return n.Refit == "" || n.Method.Reform != "" && n.Types == nil && n.Method.Tune.repeatable() == nil
}

// HasRecipe returns why there is no recipe of a subnet, nil where there is one.
func (s *Snapshot) HasRecipe(id SubnetID) error {
	n, ok := s.Subnet(id)
	switch {
	case id == DenseID || id == DraftID:
		return fmt.Errorf("%w: recipes are of subnets in the library", ErrUnsupported)
	case !ok:
		return fmt.Errorf("subnet %s: %w", id, ErrNotFound)
	case n.Types != nil:
		return fmt.Errorf("%w: recipes do not hold types of matrices, and %s has some: export it as a file", ErrUnsupported, n.Name)
	case n.Method.Tune.repeatable() != nil:
		return fmt.Errorf("%s: %w", n.Name, n.Method.Tune.repeatable())
	case !rebuildable(n):
		return fmt.Errorf("%w: %s has weights of the search's levels, which a recipe does not repeat: re-fit it first", ErrUnsupported, n.Name)
	}
	return nil
}

// recipe returns the recipe of a subnet of the library.
func (s *Snapshot) recipe(n Subnet, typ string) (Recipe, error) {
	text, err := n.Masks.MarshalText()
	n.Method.Text.Path = baseName(n.Method.Text.Path) // a recipe is read on other machines
	n.Method.Tune = n.Method.Tune.portable()
	n.Measurements = slices.Clone(n.Measurements)
	for i := range n.Measurements {
		at := &n.Measurements[i].Conditions.Text.Path
		*at = baseName(*at)
	}
	return Recipe{
		Format: recipeFormat, Name: n.Name, Note: n.Note, Created: n.Created, Source: Source{Name: s.Model.Name, Bytes: s.Model.Bytes},
		Masks: string(text), Method: n.Method, Type: typ, Share: n.Size.Ratio, Measurements: n.Measurements,
	}, err
}

// exportRecipe writes a recipe with the hash of the file that it builds here.
func (e *Exploration) exportRecipe(ctx context.Context, c ExportRecipe, m *monitor) error {
	s := e.Snapshot()
	n, ok := s.Subnet(c.Subnet)
	if !ok {
		return fmt.Errorf("subnet %s: %w", c.Subnet, ErrNotFound)
	}
	r, err := s.recipe(n, c.Type)
	if err != nil {
		return err
	}
	if r.Source.SHA256, err = e.model.SHA256(ctx); err != nil {
		return err
	}
	subject, err := e.loadSubnet(ctx, n.ID)
	if err != nil {
		return err
	}
	made := filepath.Join(e.scratch, "recipe.gguf")
	defer func() { _ = removeIfThere(made) }() // the scratch folder goes anyway
	if r.Result, err = e.writeHashed(ctx, subject, made, c.Type, m); err != nil {
		return err
	}
	err = m.Persist(ctx, func() error {
		return durable.Write(c.Path, 0o600, func(w io.Writer) error { return WriteRecipe(w, r) })
	})
	if err != nil {
		return err
	}
	m.show(func(j *Job) { j.Output = c.Path })
	return nil
}

// writeHashed writes a subnet's file without provenance, so that it is the same on every machine, and returns its hash.
func (e *Exploration) writeHashed(ctx context.Context, s gguf.Subnet, path, typ string, m *monitor) (string, error) {
	s.Provenance = nil
	report, err := e.model.Write(ctx, s, path, typ, m)
	if err != nil {
		return "", err
	}
	m.show(func(j *Job) { j.Report = &report })
	hash, _, err := durable.HashFile(ctx, path)
	return hash, err
}

// buildRecipe checks the inputs of a recipe, re-fits, adds the subnet to the library and writes the file. Whether the file
// has the expected hash is a message, not an error: devices round differently.
func (e *Exploration) buildRecipe(ctx context.Context, a Actor, c BuildRecipe, m *monitor) error {
	f, err := os.Open(c.Path)
	if err != nil {
		return err
	}
	r, masks, err := ReadRecipe(f, e.Snapshot().Model.Geometry)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	m.Progress(0, 0, "bytes", "checking the model")
	got, err := e.model.SHA256(ctx)
	if err != nil {
		return err
	}
	if got != r.Source.SHA256 {
		return fmt.Errorf("%s: %w: the recipe is for another model, %s (%.12s, not %.12s)", c.Path, ErrInvalid, r.Source.Name, r.Source.SHA256, got)
	}
	if !IsPreset(r.Method.Preset) { // a strategy's name: its subnets are re-fitted by the default preset
		r.Method.Preset = ""
		if r.Method.Reform == "exact" && r.Method.FitTarget == "local" && !r.Method.Pull { // that of the paper's strategies
			r.Method.Preset = string(preset.OBS)
		}
	}
	texts, err := e.recipeTexts(ctx, c, r, m)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	made, err := e.rebuild(ctx, a, r, masks, texts, m)
	if err != nil {
		return err
	}
	if err := m.Persist(ctx, func() error { return e.keep(a, m, made, Subnet{Name: r.Name, Origin: Imported, Note: r.Note}) }); err != nil {
		return err
	}
	if c.To == "" {
		return nil
	}
	hash, err := e.writeHashed(ctx, made.Subnet, c.To, r.Type, m)
	if err != nil {
		return err
	}
	m.show(func(j *Job) { j.Output = c.To })
	switch {
	case r.Result == "":
	case hash == r.Result:
		e.notify(Info, a.Name, fmt.Sprintf("%s is identical to the file that the author of the recipe built", filepath.Base(c.To)))
	default:
		e.notify(Warning, a.Name, fmt.Sprintf("%s differs from the file that the author of the recipe built, which is normal on another device or number of cores (%.12s, not %.12s)",
			filepath.Base(c.To), hash, r.Result))
	}
	return nil
}

// rebuild re-fits and tunes the masks of a recipe again. texts are those of its re-fit, if it has one, and of its tunings.
func (e *Exploration) rebuild(ctx context.Context, a Actor, r Recipe, masks subnet.Masks, texts []Calibration, m *monitor) (Made, error) {
	runs := r.Method.Tune.runs()
	r.Method.Tune = nil
	made := Made{Subnet: gguf.Subnet{Masks: masks}, Method: r.Method}
	if r.Method.refits() {
		pull, bias, bridge, up, gradient := r.Method.Pull, r.Method.Bias, r.Method.Bridge, r.Method.Up, r.Method.Gradient
		old := r.Method.Reform == "admm" && r.Method.FitTarget == "" // before the paper's was the default
		refit := Refit{
			Preset:      r.Method.Preset,
			Calibration: texts[0],
			Reform: ReformOptions{
				Method: r.Method.Reform, Target: r.Method.FitTarget, Lambda: r.Method.Lambda, Pull: &pull, Bias: &bias, Rho: r.Method.Rho,
				Steps: r.Method.Steps, Up: &up, Bridge: &bridge, Weigh: r.Method.Weigh, Gradient: &gradient, OwnRidge: old,
			},
		}
		e.begin(m, DenseID, r.Method)
		var err error
		if made, err = e.model.Refit(ctx, masks, refit, m); err != nil {
			return Made{}, err
		}
	}
	for i, run := range runs {
		tune := Tune{Calibration: texts[len(texts)-len(runs)+i], Tuning: run.again()}
		next, err := e.tuned(ctx, made.Subnet, made.Method, tune, m)
		if err != nil {
			return Made{}, err
		}
		if why := next.Method.Tune.gainless(); why != "" {
			e.notify(Warning, a.Name, fmt.Sprintf("tuning gained nothing here, and %s stays as it was before: %s", r.Name, why))
			continue
		}
		made = next
	}
	return made, nil
}

// refits reports whether a subnet was re-fitted, so that rebuilding it needs the text.
func (m Method) refits() bool { return m.Bias || m.Reform != "" && m.Reform != "none" }

// recipeTexts returns the calibrations of a recipe's re-fit, if it has one, and of its tunings, whose texts are those of the recipe by
// their hashes.
func (e *Exploration) recipeTexts(ctx context.Context, c BuildRecipe, r Recipe, m *monitor) ([]Calibration, error) {
	var wants []Method // their texts
	if r.Method.refits() {
		wants = append(wants, r.Method)
	}
	for _, t := range r.Method.Tune.runs() {
		wants = append(wants, t.learned())
	}
	if err := c.checkTexts(wants); err != nil {
		return nil, err
	}
	var out []Calibration
	for _, want := range wants {
		calibration, err := c.calibration(want)
		if err != nil {
			return nil, err
		}
		out = append(out, calibration)
	}
	for i, want := range wants {
		checked := i > 0 && want.Text.SHA256 == wants[i-1].Text.SHA256 && out[i].Text == out[i-1].Text && slices.Equal(out[i].Mix, out[i-1].Mix)
		if checked || want.Text.SHA256 == "" {
			continue
		}
		m.Progress(0, 0, "bytes", "checking the calibration text")
		text, mix, err := e.model.Identify(ctx, out[i], m)
		if err != nil {
			return nil, err
		}
		if text.SHA256 != want.Text.SHA256 {
			return nil, otherText(want, Method{Text: text, Mix: mix})
		}
	}
	return out, nil
}

// checkTexts refuses texts that a recipe, which needs those of wants, does not name.
func (c BuildRecipe) checkTexts(wants []Method) error {
	if len(wants) == 0 {
		return nil
	}
	single, mixes, mixed := "", "", false
	names := make(map[string]bool)
	for _, w := range wants {
		if len(w.Mix) == 0 {
			single = cmp.Or(single, baseName(w.Text.Path), "the default text")
			continue
		}
		mixes, mixed = cmp.Or(mixes, w.Text.Path), true
		for _, p := range w.Mix {
			names[p.Name] = true
		}
	}
	switch {
	case len(c.Mix) > 0 && !mixed:
		return fmt.Errorf("%w: the recipe was calibrated on one text, %s, not on a mix", ErrInvalid, single)
	case c.Text != "" && single == "":
		return fmt.Errorf("%w: the recipe was calibrated on a mix, %s: name its texts, --text NAME=FILE", ErrInvalid, mixes)
	}
	for _, t := range c.Mix {
		if !names[t.Name] {
			return fmt.Errorf("%w: the mix of the recipe, %s, has no text named %s", ErrInvalid, mixes, t.Name)
		}
	}
	return nil
}

// calibration returns the calibration of what a recipe repeats.
func (c BuildRecipe) calibration(by Method) (Calibration, error) {
	out := Calibration{
		Windows: by.Windows, Seq: by.Seq, Of: by.Drawn, Draw: by.Draw, Seed: by.Seed, ComputeType: cmp.Or(by.ComputeType, Floats), AtOnce: by.AtOnce,
	}
	if len(by.Mix) == 0 {
		if out.Text = c.Text; out.Text == "" {
			out.Text = recipeText(c.Path, by.Text.Path)
		}
		return out.stored(), nil
	}
	given := make(map[string]string)
	for _, t := range c.Mix {
		given[t.Name] = t.Path
	}
	for _, p := range by.Mix {
		t := MixText{Name: p.Name, Share: p.Share, Path: given[p.Name]}
		if t.Path == "" && p.Text != "" {
			if t.Path = recipeText(c.Path, p.Text); t.Path == "" {
				return out, fmt.Errorf("%w: the text %s of the mix, %s, is neither in the working folder nor beside the recipe: name it, --text %s=FILE", ErrText, p.Name, p.Text, p.Name)
			}
		}
		out.Mix = append(out.Mix, t)
	}
	return out, nil
}

// otherText returns the error of a recipe that was calibrated on another text than the one found.
func otherText(want, got Method) error {
	for i, p := range want.Mix {
		if i < len(got.Mix) && got.Mix[i].SHA256 != p.SHA256 {
			return fmt.Errorf("%w: the recipe was calibrated on another text %s (%.12s, not %.12s): name it, --text %s=FILE", ErrText, p.Name, p.SHA256, got.Mix[i].SHA256, p.Name)
		}
	}
	return fmt.Errorf("%w: the recipe was calibrated on another text, %s (%.12s, not %.12s)", ErrText, baseName(want.Text.Path), want.Text.SHA256, got.Text.SHA256)
}

// recipeText returns the calibration text of a recipe: the file of its name in the working directory or beside the recipe, else "", the default
// text.
func recipeText(recipe, name string) string {
	if name == "" || strings.HasPrefix(name, HubText) {
		return name
	}
	for _, path := range []string{name, filepath.Join(filepath.Dir(recipe), name)} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// check returns the first setting of a method that no command could have set.
func (m Method) check() error {
	up, gradient := m.Up, m.Gradient
	return errors.Join(
		Calibration{ComputeType: m.ComputeType, AtOnce: m.AtOnce, Windows: m.Windows, Seq: m.Seq, Of: m.Drawn}.check(),
		ReformOptions{Method: m.Reform, Target: m.FitTarget, Weigh: m.Weigh, Lambda: m.Lambda, Rho: m.Rho, Steps: m.Steps, Up: &up, Gradient: &gradient}.check(),
	)
}

// WriteRecipe writes a recipe.
func WriteRecipe(w io.Writer, r Recipe) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// ReadRecipe reads a recipe for a model of that shape. Its errors wrap ErrDamaged.
func ReadRecipe(r io.Reader, g *subnet.Geometry) (Recipe, subnet.Masks, error) {
	limited := &io.LimitedReader{R: r, N: maxRecipe + 1}
	var recipe Recipe
	if err := json.NewDecoder(limited).Decode(&recipe); err != nil {
		return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: not a recipe: %w", ErrDamaged, err)
	}
	if limited.N <= 0 {
		return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: more than %d bytes", ErrDamaged, int64(maxRecipe))
	}
	if recipe.Format != recipeFormat {
		return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: format %.40q, not %q", ErrDamaged, recipe.Format, recipeFormat)
	}
	masks, err := subnet.ParseMasks(g, []byte(recipe.Masks))
	if err != nil {
		return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: masks: %w", ErrDamaged, err)
	}
	if err := recipe.Method.check(); err != nil {
		return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: method: %w", ErrDamaged, err)
	}
	if err := recipe.Method.Tune.repeatable(); err != nil {
		return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: method.tune: %w", ErrDamaged, err)
	}
	for _, t := range recipe.Method.Tune.runs() {
		c := Calibration{Windows: t.Windows, Seq: t.Seq, Of: t.Drawn}
		err := errors.Join(t.again().check(), c.check())
		if t.Best < 1 {
			err = fmt.Errorf("%w: the best step is %d", ErrInvalid, t.Best)
		}
		if err != nil {
			return Recipe{}, subnet.Masks{}, fmt.Errorf("%w: method.tune: %w", ErrDamaged, err)
		}
	}
	return recipe, masks, nil
}
