package contest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
)

var long = flag.Bool("long", false, "compare the strategies on larger landscapes, over more seeds, and print the comparison")

// contest compares all strategies on a landscape.
func contest(layers int, tokens int64, seeds ...uint64) Contest {
	l := searchtest.New(searchtest.Options{Seed: 3, Layers: layers, Coupling: 0.3, Noise: 0.02, Text: 4, Error: 0.7})
	paper := search.PaperLaptop()
	paper.Epochs, paper.Granularity = 0, 4
	return Contest{
		Strategies: []search.Strategy{search.DefaultLadder(), paper, search.DefaultRandom()},
		Problem:    l.Problem(search.Ratio(0.7), 0), Evaluator: l, Seeds: seeds, Tokens: tokens,
		// The landscape's loss without noise.
		Judge: func(_ context.Context, c search.Candidate) (float64, error) { return l.Loss(c.Masks), nil },
	}
}

func TestContest(t *testing.T) {
	tokens, seeds, layers := int64(200_000), []uint64{1, 2, 3}, 6
	if *long {
		tokens, seeds, layers = 4_000_000, []uint64{1, 2, 3, 4, 5, 6, 7}, 30
	}
	all, err := Run(context.Background(), contest(layers, tokens, seeds...))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for i, a := range s.Samples {
			if i > 0 && (a.Tokens < s.Samples[i-1].Tokens || a.Seconds < s.Samples[i-1].Seconds) {
				t.Errorf("%s, seed %d: samples out of order", s.Strategy, s.Seed)
			}
		}
		if n := len(s.Samples); n == 0 || s.Samples[n-1].Tokens < tokens {
			t.Errorf("%s, seed %d: the search ended early", s.Strategy, s.Seed)
		}
	}
	curves := Curves(all, []int64{2 * tokens}, Series.At)
	if ladder, paper, random := curves[0].Loss[0], curves[1].Loss[0], curves[2].Loss[0]; ladder >= paper || ladder >= random {
		t.Errorf("ladder ends at %v, paper at %v, random at %v", ladder, paper, random)
	}
	if *long {
		if err := WriteText(os.Stdout, all, tokens); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFinalContest(t *testing.T) {
	c := contest(3, 20_000, 1)
	whole, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	c.Final = true
	final, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range final {
		last := whole[i].Samples[len(whole[i].Samples)-1]
		if len(s.Samples) != 1 || s.Samples[0].ID != last.ID || s.Samples[0].Loss != last.Loss {
			t.Errorf("%s: %+v, want %+v alone", s.Strategy, s.Samples, last)
		}
	}
}

func TestReports(t *testing.T) {
	all := []Series{
		{Strategy: "ladder", Seed: 1, Samples: []Sample{{Tokens: 100, Seconds: 1, Loss: 3, ID: 1}, {Tokens: 400, Seconds: 4, Loss: 1, ID: 5}}},
		{Strategy: "ladder", Seed: 2, Samples: []Sample{{Tokens: 300, Seconds: 2, Loss: 2, ID: 1}}},
		{Strategy: "random", Seed: 1, Samples: []Sample{{Tokens: 50, Seconds: 1, Loss: 4, ID: 1}}},
	}
	c := Curves(all, []int64{0, 100, 300, 400}, Series.At)
	if got := c[0].Loss; !math.IsNaN(got[0]) || !math.IsNaN(got[1]) || !slices.Equal(got[2:], []float64{3, 2}) {
		t.Errorf("ladder's medians are %v", got)
	}
	if got := c[1].Loss; !math.IsNaN(got[0]) || got[1] != 4 {
		t.Errorf("random's medians are %v", got)
	}
	if v, ok := all[0].After(3.9); !ok || v != 3 {
		t.Errorf("after 3.9 s: %v, %v", v, ok)
	}
	var text, table bytes.Buffer
	if err := errors.Join(WriteText(&text, all, 400), WriteCSV(&table, all)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"400 tokens", "ladder", "2.0000", "2 s", "+-----"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if !strings.Contains(table.String(), "ladder,1,400,0,4,1,5") || strings.Count(table.String(), "\n") != 5 {
		t.Errorf("CSV is\n%s", table.String())
	}
}

func TestOnText(t *testing.T) {
	l := searchtest.New(searchtest.Options{Seed: 1})
	dense, err := l.Levels.Masks(l.Levels.Dense())
	if err != nil {
		t.Fatal(err)
	}
	if loss, err := OnText(l, search.Tier{Tokens: 64})(context.Background(), search.Candidate{Masks: dense}); err != nil || loss != 2.5 {
		t.Errorf("%v, %v", loss, err)
	}
}

func TestContestStops(t *testing.T) {
	c := contest(2, 1_000_000, 1)
	ctx, cancel := context.WithCancel(context.Background())
	c.Progress = func(string, uint64, search.Spent) { cancel() }
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
