package masks

import (
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Before an estimate met a measurement, what is said of its error is known from another model, and only of re-fitted masks.
func TestAccuracyOfEstimates(t *testing.T) {
	look := theme.New(theme.Look{})
	for _, c := range []struct {
		e           explorer.Estimate
		wide, short string
	}{
		{explorer.Estimate{}, ", assumes a re-fit, untested here", ", untested here"},
		{explorer.Estimate{Refitted: true}, ", half within 2 %, 9 of 10 within 28 % on SmolLM2-135M", ", untested here"},
		{explorer.Estimate{Spread: 0.041, Compared: 2}, ", typically 4 % off (n=2)", " ± 4 % (n=2)"},
	} {
		if wide, short := accuracy(look, c.e, false), accuracy(look, c.e, true); wide != c.wide || short != c.short {
			t.Errorf("%+v: %q and %q", c.e, wide, short)
		}
	}
}
