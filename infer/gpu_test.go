package infer

import (
	"errors"
	"testing"
)

func TestParseGPU(t *testing.T) {
	for text, want := range map[string]int{"": AllLayers, "auto": AllLayers, "off": 0, "0": 0, "7": 7} {
		got, err := ParseGPU(text)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseGPU(FormatGPU(got)); err != nil || again != got {
			t.Errorf("%d is written as %q and read as %d, %v", got, FormatGPU(got), again, err)
		}
	}
	for _, text := range []string{"on", "-1", "1.5", "all", "99999999"} {
		if n, err := ParseGPU(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is %d, %v", text, n, err)
		}
	}
}
