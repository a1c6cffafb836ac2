package subnets

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Expected describes how long a cut or re-fit will take, from one that was made here: "" where there is none.
func Expected(s *explorer.Snapshot, c explorer.Command) string {
	p, ok := s.Precedent(c)
	if !ok {
		return ""
	}
	m := p.Of.Method
	out := "Takes about " + text.Short(p.Time+p.Tuning)
	cut, _ := c.(explorer.Cut)
	switch {
	case p.Tuning > 0 && cut.Tuning.Seconds > 0:
		out += ", of which tuning at most " + text.Short(p.Tuning)
	case p.Tuning > 0:
		out += ", of which tuning " + text.Short(p.Tuning)
	case cut.Tuning.On():
		out += " without tuning"
	}
	return out + fmt.Sprintf(": %s took %s with %d × %d tokens.", text.Line(p.Of.Name), text.Short(p.Took()), m.Windows, m.Seq)
}

// ShowOwn has the entries of [RefitEntries] show which values are the preset's own, for models of a shape. named returns the preset, or ""
// where it is not known.
func ShowOwn(entries []*widget.Entry, g *subnet.Geometry, named func(f *widget.Form) string) {
	yesNo := map[bool]string{true: "yes", false: "no"}
	own := map[string]func(name string, r preset.Refit) string{
		"refit": func(name string, _ preset.Refit) string { return preset.OwnRefit(name) },
		"fit-target": func(_ string, r preset.Refit) string {
			if residual := explorer.FitTargets()[2]; r.Target == residual && g != nil && !explorer.FitsResidual(g) {
				return explorer.FitTargets()[0]
			}
			return r.Target
		},
		"lambda": func(_ string, r preset.Refit) string { return r.Lambda },
		"pull":   func(_ string, r preset.Refit) string { return yesNo[r.Pull] },
		"bias":   func(_ string, r preset.Refit) string { return yesNo[r.Bias] },
		"bridge": func(string, preset.Refit) string { return "no" },
		"weigh":  func(_ string, r preset.Refit) string { return r.Weigh },
		"up":     func(string, preset.Refit) string { return "0" },
	}
	for _, e := range entries {
		value := own[e.ID]
		if value == nil {
			continue
		}
		e.Own = func(f *widget.Form) string {
			name, method := named(f), f.Get("refit")
			if !slices.Contains(explorer.FitMethods(), method) {
				method = preset.OwnRefit(name)
			}
			always := e.ID == "refit" || e.ID == "bias" || e.ID == "bridge"
			if name == "" || method == "admm" || method == "none" && !always {
				return ""
			}
			return value(name, preset.RefitOf(name))
		}
	}
}

// RefitEntries are the entries of forms about how weights are re-fitted, which [RefitOf] reads. own is the choice that leaves a
// setting as it is without the form, such as "preset's own"; it is preselected. hidden, unless nil, hides all of them.
func RefitEntries(own string, hidden func(*widget.Form) bool) []*widget.Entry {
	with := func(list ...string) []string { return append([]string{own}, list...) }
	number := func(id, label, help string, r explorer.Range) *widget.Entry {
		if !strings.Contains(help, "empty: ") {
			help += "; empty: " + own
		}
		return widget.TextEntry(id, label, "", help, widget.InRange(r.Has, r))
	}
	whole := func(id, label, help string, r explorer.Range) *widget.Entry {
		if !strings.Contains(help, "empty: ") {
			help += "; empty: " + own
		}
		return widget.TextEntry(id, label, "", help, widget.CountIn(int(r.Lo), int(r.Hi)))
	}
	entries := []*widget.Entry{
		widget.ChoiceEntry("refit", "re-fit", own, "exact: least squares; admm: the paper's iteration, without ridge and pull unless set here; none: keep the original weights", with(explorer.FitMethods()...)...),
		widget.ChoiceEntry("fit-target", "reproduce", own, "local: outputs of the original matrix on the subnet's inputs; dense: its outputs in the dense model; residual: the dense model's hidden states", with(explorer.FitTargets()...)...),
		number("lambda", "lambda", "ridge term, relative to the mean of the diagonal of H", explorer.LambdaRange()),
		widget.ChoiceEntry("pull", "pull", own, "the ridge pulls toward the original weights instead of zero; better with little text", with("yes", "no")...),
		widget.ChoiceEntry("bias", "bias", own, "also fits a bias per output; stock llama.cpp loads such files", with("yes", "no")...),
		widget.ChoiceEntry("bridge", "bridge", own, "W_D before dropped layers is re-fitted to the hidden states after them, then all later output matrices", with("yes", "no")...),
		widget.ChoiceEntry("weigh", "tokens count by", own, "state: the inverse size of their hidden states; gradient: the gradient of the dense model's loss", with(explorer.Weighings()...)...),
		number("rho", "rho", "penalty of admm, relative to the mean of the diagonal of H; empty: 1, the paper's", explorer.RhoRange()),
		whole("steps", "steps", "iterations of admm; empty: 30, the paper's", explorer.StepsRange()),
		whole("up", "steps of W_U", "steps of the re-fit of W_U of the MLPs; 0 leaves W_U unchanged", explorer.UpRange()),
	}
	for _, e := range entries {
		e.Hidden = func(f *widget.Form) bool { return hidden != nil && hidden(f) || !refitApplies(f, e.ID) }
	}
	return entries
}

// refitApplies reports whether a setting has an effect with the others of the form.
func refitApplies(f *widget.Form, id string) bool {
	method := f.Get("refit")
	switch id {
	case "lambda", "pull", "fit-target":
		return method != "none"
	case "weigh":
		return method != "none" && f.Get("fit-target") != "dense" && f.Get("bias") != "yes"
	case "bridge":
		return method != "none" && method != "admm" && f.Get("fit-target") != "local" && f.Get("fit-target") != "dense"
	case "rho", "steps":
		return method == "admm"
	case "up", "gradient":
		return method != "none" && method != "admm" && f.Get("fit-target") != "dense" && f.Get("bias") != "yes"
	}
	return true
}

// RefitOf returns the settings chosen in a form with [RefitEntries].
func RefitOf(f *widget.Form) explorer.ReformOptions {
	value := func(id string) string {
		if !refitApplies(f, id) {
			return ""
		}
		return f.Get(id)
	}
	yesNo := func(id string) *bool {
		switch v := value(id); v {
		case "yes", "no":
			yes := v == "yes"
			return &yes
		}
		return nil
	}
	oneOf := func(id string, all []string) string {
		for _, v := range all {
			if value(id) == v {
				return v
			}
		}
		return "" // its own
	}
	o := explorer.ReformOptions{Method: oneOf("refit", explorer.FitMethods()), Target: oneOf("fit-target", explorer.FitTargets()), Pull: yesNo("pull"), Bias: yesNo("bias"), Bridge: yesNo("bridge"), Weigh: oneOf("weigh", explorer.Weighings())}
	if value("lambda") != "" {
		lambda := f.Number("lambda")
		o.Lambda = &lambda
	}
	if refitApplies(f, "rho") {
		o.Rho, o.Steps = f.Number("rho"), f.Count("steps")
	}
	if value("up") != "" {
		up := f.Count("up")
		o.Up = &up
	}
	return o
}

// GradientEntry is an entry beside those of [RefitEntries] for the steps of a re-fit by gradient, which searches do not have. [WithGradient]
// reads it.
func GradientEntry() *widget.Entry {
	r := explorer.GradientRange()
	e := widget.TextEntry("gradient", "gradient steps", "", "most steps that re-fit all matrices of modules that have lost units, W_G, W_U or W_Q, W_K, W_V too; several times the time; 48 is a good number; empty: none", widget.CountIn(int(r.Lo), int(r.Hi)))
	e.Hidden = func(f *widget.Form) bool { return !refitApplies(f, e.ID) }
	return e
}

// WithGradient returns the settings of [RefitOf] with those of a [GradientEntry].
func WithGradient(f *widget.Form, o explorer.ReformOptions) explorer.ReformOptions {
	if f.Get("gradient") != "" && refitApplies(f, "gradient") {
		steps := f.Count("gradient")
		o.Gradient = &steps
	}
	return o
}

// GranularityEntry is an entry for the step of MLP widths, which [widget.Form.Count] reads.
func GranularityEntry(byDefault string) *widget.Entry {
	return widget.TextEntry("granularity", "granularity", "", "MLP widths are a multiple of it; K-quant types need 256; empty: "+byDefault, widget.CountIn(1, 1<<20))
}

// TunedBy describes how far a subnet was tuned, and with which rank.
func TunedBy(u *explorer.Tuned) string { return format.Counted(u.Best, "step") + WithRank(u) }

// WithRank returns the rank of what tuning added to matrices, to be appended, "" for nothing.
func WithRank(u *explorer.Tuned) string {
	if u.Rank == 0 {
		return ""
	}
	return fmt.Sprintf(", rank %d", u.Rank)
}
