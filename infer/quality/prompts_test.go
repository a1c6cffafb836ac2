package quality

import (
	"strings"
	"testing"
)

func TestProbes(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if p.Name == "" || p.Text == "" || p.Look == "" || seen[p.Name] || seen[p.Text] {
			t.Errorf("probe %+v", p)
		}
		seen[p.Name], seen[p.Text] = true, true
	}
}

func TestRepeats(t *testing.T) {
	for _, c := range []struct {
		text string
		want float64
	}{
		{"", 0}, {strings.Repeat("yes ", 7), 0}, {"one two three four five six seven eight", 0},
		{"a b c d a b c d", 1.0 / 5}, {strings.Repeat("again ", 13), 9.0 / 10},
	} {
		near(t, c.text, Repeats(c.text), c.want, 1e-12)
	}
}
