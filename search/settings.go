package search

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Setting is an option of a strategy that people may set by its name.
type Setting struct {
	Name string
	Help string
	// Values describes what it may be: "an integer in [1, 100000]".
	Values string

	get func() string
	set func(string) bool // false for a value that is not one of Values
}

// Value returns the value as it is written.
func (s Setting) Value() string { return s.get() }

// Settings returns the options of a strategy that can be set by name, nil where
// there are none.
func Settings(s Strategy) []Setting {
	switch s := s.(type) {
	case *Paper:
		return s.settings()
	case *Ladder:
		return []Setting{whole("children", "mutations of the parent in a generation; more of them keep more workers busy", &s.Lambda, 1, 10000)}
	case *Random:
		return []Setting{
			whole("batch", "choices per generation", &s.Batch, 1, 100000),
			whole("tokens", "text that a candidate is scored on", &s.Tokens, 2, 1<<30),
		}
	}
	return nil
}

// Set sets options of a strategy by a list such as "population=20,alpha=0.9", in
// which spaces separate too. Its errors wrap [ErrConfig] and contain the name of the
// option and what it may be.
func Set(s Strategy, list string) error {
	settings := Settings(s)
	for _, pair := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%w: %q is not a setting such as name=value", ErrConfig, pair)
		}
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("%w: the strategy %s has no setting %q; %s", ErrConfig, s.Name(), name, listNames(settings))
		}
		if !settings[i].set(value) {
			return fmt.Errorf("%w: %s %q is not %s", ErrConfig, name, value, settings[i].Values)
		}
	}
	return nil
}

// listNames lists the settings that there are.
func listNames(all []Setting) string {
	if len(all) == 0 {
		return "it has none"
	}
	list := make([]string, len(all))
	for i, s := range all {
		list[i] = s.Name
	}
	return "it has " + strings.Join(list, ", ")
}

// whole is an integer setting.
func whole(name, help string, v *int, lo, hi int) Setting {
	return Setting{
		Name: name, Help: help, Values: fmt.Sprintf("an integer in [%d, %d]", lo, hi),
		get: func() string { return strconv.Itoa(*v) },
		set: func(text string) bool {
			n, err := strconv.Atoi(text)
			if err != nil || n < lo || n > hi {
				return false
			}
			*v = n
			return true
		},
	}
}

// number is a real setting in [lo, hi], or in (lo, hi] if lo is excluded.
func number(name, help string, v *float64, lo, hi float64, excluded bool) Setting {
	bracket := "["
	if excluded {
		bracket = "("
	}
	return Setting{
		Name: name, Help: help, Values: fmt.Sprintf("a number in %s%g, %g]", bracket, lo, hi),
		get: func() string { return strconv.FormatFloat(*v, 'g', -1, 64) },
		set: func(text string) bool {
			x, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(x) || x < lo || x > hi || excluded && x == lo {
				return false
			}
			*v = x
			return true
		},
	}
}

// choice is a setting with a few values.
func choice(name, help string, get func() string, set func(string), values ...string) Setting {
	return Setting{
		Name: name, Help: help, Values: "one of " + strings.Join(values, ", "), get: get,
		set: func(text string) bool {
			if !slices.Contains(values, text) {
				return false
			}
			set(text)
			return true
		},
	}
}

func (s *Paper) settings() []Setting {
	const most = 100000
	return []Setting{
		whole("population", "N: candidates per epoch", &s.N, 1, most),
		whole("mutations", "N_m: mutations of parents per epoch", &s.Nm, 0, most),
		whole("crossovers", "N_c: crossovers of parents per epoch; the rest of the population is new", &s.Nc, 0, most),
		whole("parents", "k: the best candidates, which are kept as parents", &s.K, 1, most),
		whole("epochs", "epochs after the start, 0 for as many as the budget allows", &s.Epochs, 0, 1e6),
		number("p0-mask", "P⁰_m: probability of mask mutation of new candidates", &s.P0m, 0, 1, false),
		number("p0-ratio", "P⁰_s: probability of ratio mutation of new candidates", &s.P0s, 0, 1, false),
		number("p0-depth", "probability of depth mutation of new candidates", &s.P0d, 0, 1, false),
		number("p-mask", "P_m: probability of mask mutation", &s.Pm, 0, 1, false),
		number("p-ratio", "P_s: probability of ratio mutation", &s.Ps, 0, 1, false),
		number("p-depth", "P_d: probability of depth mutation", &s.Pd, 0, 1, false),
		number("alpha", "α: least similarity of a redrawn mask with the old one", &s.Alpha, 0, 1, false),
		choice("overlap", "how the overlap of a redrawn mask with the old one is drawn", s.overlap, s.setOverlap, overlapUniform, overlapRejection, overlapLiteral),
		whole("eta", "η: draws of a mask, with overlap=literal", &s.Eta, 0, 1e9),
		number("range", "how far below the target a candidate may be, as a share of it", &s.Range, 0, 1, true),
		whole("tokens", "text that a candidate is scored on", &s.Tokens, 2, 1<<30),
		whole("granularity", "step of the number of MLP channels", &s.Granularity, 1, 1<<16),
		whole("head-granularity", "step of the number of channels inside a head", &s.HeadGranularity, 1, 1<<16),
		choice("refit", "how the weights of the result are re-fitted", func() string { return s.Refit }, func(v string) { s.Refit = v },
			RefitADMM, RefitExact, RefitLathe, RefitNone),
		number("rho", "ρ of ADMM, as a share of the mean diagonal of the second moments", &s.Rho, 0, 1e6, true),
		whole("admm-steps", "steps of ADMM", &s.Steps, 1, 10000),
	}
}

// The values of the setting overlap, see [Paper.Directed].
const (
	overlapUniform   = "uniform"
	overlapRejection = "rejection"
	overlapLiteral   = "literal"
)

func (s *Paper) overlap() string {
	switch {
	case s.Literal:
		return overlapLiteral
	case s.Directed:
		return overlapUniform
	}
	return overlapRejection
}

func (s *Paper) setOverlap(v string) {
	s.Directed, s.Literal = v == overlapUniform, v == overlapLiteral
}
