package search_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/lathe-llm/lathe/search"
)

func TestParseTarget(t *testing.T) {
	for _, test := range []struct {
		text, typ string
		want      search.Target
		back      string // as Text returns it
	}{
		{"0.8", "Q4_0", search.Ratio(0.8), "0.8"},
		{" 80 % ", "", search.Ratio(0.8), "0.8"},
		{"ratio=1", "", search.Ratio(1), "1"},
		{"80MB", "", search.Target{Measure: search.Bytes, Value: 80e6}, "80MB"},
		{"size=80.5 mb", "q4_1", search.Target{Measure: search.Bytes, Value: 80.5e6, Type: "Q4_1"}, "80.5MB:Q4_1"},
		{"1.5GiB:Q8_0", "F16", search.Target{Measure: search.Bytes, Value: 1.5 * (1 << 30), Type: "Q8_0"}, "1610612736B:Q8_0"},
		{"memory=512MB@4096", "", search.Target{Measure: search.Memory, Value: 512e6, Context: 4096}, "memory=512MB@4096"},
		{"memory=2GB@8192:F16", "", search.Target{Measure: search.Memory, Value: 2e9, Context: 8192, Type: "F16"}, "memory=2GB@8192:F16"},
		{"speed=1.5x", "", search.Target{Measure: search.Speed, Value: 1 / 1.5}, "speed=1.5x"},
		{"Speed = 2", "Q8_0", search.Target{Measure: search.Speed, Value: 0.5, Type: "Q8_0"}, "speed=2x:Q8_0"},
		{"latency=12ms", "", search.Target{Measure: search.Latency, Value: 0.012}, "latency=12ms"},
		{"latency=1.5s", "", search.Target{Measure: search.Latency, Value: 1.5}, "latency=1500ms"},
	} {
		got, err := search.ParseTarget(test.text, test.typ)
		if err != nil || got != test.want {
			t.Errorf("%q: %+v (%v), want %+v", test.text, got, err, test.want)
			continue
		}
		if got.Text() != test.back {
			t.Errorf("%q: written as %q, want %q", test.text, got.Text(), test.back)
		}
		again, err := search.ParseTarget(got.Text(), "")
		if err != nil || again.Measure != got.Measure || again.Type != got.Type || again.Context != got.Context || math.Abs(again.Value/got.Value-1) > 1e-11 {
			t.Errorf("%q: read back as %+v (%v)", got.Text(), again, err)
		}
		data, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var stored search.Target
		if err := json.Unmarshal(data, &stored); err != nil || stored != got {
			t.Errorf("%s: %+v (%v)", data, stored, err)
		}
	}
	for _, text := range []string{
		"", "x", "0", "1.1", "-3MB", "80XB", "NaN", "80MB:Q9", "0.8:Q4_0", "ratio=80MB", "size=0.8", "memory=512MB", "memory=512MB@0", "memory=0.5@4096",
		"memory=512MB@many", "speed=0", "speed=-1x", "speed=fast", "latency=12", "latency=-1ms", "weight=3kg", "=", "InfMB", "speed=1e-400", "1e30GB", "memory=1e30GB@64",
	} {
		if got, err := search.ParseTarget(text, ""); !errors.Is(err, search.ErrConfig) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// Targets are stored as an object; a number, as earlier versions stored ratios, and a text are read too.
func TestStoredTargets(t *testing.T) {
	for text, want := range map[string]search.Target{
		"0": {}, "0.75": search.Ratio(0.75), `{"Measure":"params","Value":0.7,"Type":"","Context":0}`: search.Ratio(0.7),
		`"speed=2x"`: {Measure: search.Speed, Value: 0.5},
		`{"Measure":"bytes","Value":1e6,"Type":"Q8_0","Context":0}`: {Measure: search.Bytes, Value: 1e6, Type: "Q8_0"},
	} {
		var got search.Target
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", text, got, err, want)
		}
	}
	var got search.Target
	if err := json.Unmarshal([]byte(`"80 elephants"`), &got); !errors.Is(err, search.ErrConfig) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, text := range []string{"0.8", "80MB:Q8_0", "memory=512MB@4096", "speed=1.5x", "latency=12ms"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := search.ParseTarget(text, "")
		if err != nil {
			return
		}
		if again, err := search.ParseTarget(target.Text(), ""); err != nil || again.Measure != target.Measure {
			t.Errorf("%q: written as %q: %+v, %v", text, target.Text(), again, err)
		}
	})
}
