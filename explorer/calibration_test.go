package explorer_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

func TestParseTexts(t *testing.T) {
	type mix = []explorer.MixText
	for text, want := range map[string]explorer.Calibration{
		"":                 {},
		"notes.txt":        {Text: "notes.txt"},
		"a, b.txt":         {Text: "a, b.txt"},
		"dir/a=b.txt":      {Text: "dir/a=b.txt"},
		"wiki":             {Text: "wiki"},
		"./wiki":           {Text: "./wiki"},
		"mine=a/b.txt":     {Mix: mix{{Name: "mine", Path: "a/b.txt"}}},
		"wiki:0.4, web":    {Mix: mix{{Name: "wiki", Share: 0.4}, {Name: "web"}}},
		"wiki=w:0.5,chat":  {Mix: mix{{Name: "wiki", Path: "w", Share: 0.5}, {Name: "chat"}}},
		"web, x/notes.txt": {Mix: mix{{Name: "web"}, {Name: "notes", Path: "x/notes.txt"}}},
		"a=b:c:1":          {Mix: mix{{Name: "a", Path: "b:c", Share: 1}}},
	} {
		got, err := explorer.ParseTexts(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v, error %v", text, got, want, err)
		}
		if again, err := explorer.ParseTexts(got.Texts()); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q: %q is read as %+v, error %v", text, got.Texts(), again, err)
		}
	}
	for text, want := range map[string]string{
		"a=x:0.5, b=y:0.4":      "add up to 0.9",
		"a=x:0.5, b=y:0.5, c=z": "leave nothing",
		"a=x:0.5, a=y:0.5":      "two texts",
		"a=x:1.5":               "(0, 1]",
		"a=x:0":                 "(0, 1]",
		"a=x:-1":                "(0, 1]",
		"a=x:NaN":               "(0, 1]",
		"a=x:1e999":             "(0, 1]",
		"wiki, =":               "no name",
		"a=, b=y":               "names no text",
		"wiki, ":                "names no text",
	} {
		if _, err := explorer.ParseTexts(text); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseTexts(f *testing.F) {
	f.Add("wiki=a:0.4, web:0.4, chat:0.2")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := explorer.ParseTexts(text)
		if err != nil {
			return
		}
		shares, err := c.Shares()
		sum := 0.0
		for _, s := range shares {
			sum += s
		}
		if err != nil || len(c.Mix) > 0 && math.Abs(sum-1) > 1e-9 {
			t.Errorf("shares %v, error %v", shares, err)
		}
	})
}

func TestShares(t *testing.T) {
	c, err := explorer.ParseTexts("wiki:0.4, web, chat")
	if err != nil {
		t.Fatal(err)
	}
	shares, err := c.Shares()
	if err != nil || math.Abs(shares[1]-0.3) > 1e-9 || math.Abs(shares[2]-0.3) > 1e-9 {
		t.Errorf("%v, error %v", shares, err)
	}
}

// TestCalibrationIsChecked gives calibrations that cannot be to every command that calibrates.
func TestCalibrationIsChecked(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), t.TempDir())
	for name, c := range map[string]explorer.Calibration{
		"share":    {Mix: []explorer.MixText{{Name: "wiki", Share: 0.4}, {Name: "web", Share: 0.4}}},
		"built-in": {Mix: []explorer.MixText{{Name: "notes", Share: 1}}},
		"draw":     {Draw: "middle"},
		"single":   {Draw: explorer.DrawStart},
		"both":     {Text: "a", Mix: []explorer.MixText{{Name: "wiki", Share: 1}}},
		"first":    {Windows: 8, Of: 4},
	} {
		for _, command := range []explorer.Command{
			explorer.Cut{Target: 0.8, Calibration: c}, explorer.Refit{Subnet: explorer.DraftID, Calibration: c},
			explorer.StartSearch{Target: search.Ratio(0.8), Calibration: c}, explorer.GatherStatistics{Calibration: c},
		} {
			if _, err := e.Do(t.Context(), explorertest.Owner, command); !errors.Is(err, explorer.ErrInvalid) {
				t.Errorf("%s: %T: %v", name, command, err)
			}
		}
	}
}
