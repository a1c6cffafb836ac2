package explorer_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

func TestFormatBench(t *testing.T) {
	b := explorertest.Filled(t, explorertest.New()).Snapshot().Benches[0]
	text := func(format string) string {
		out, err := explorer.FormatBench(b, format)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := text(explorer.FormatText); strings.Count(got, "\n") != 1+len(b.Rows) || !strings.Contains(got, "first cut") {
		t.Errorf("text:\n%s", got)
	}
	rows, err := csv.NewReader(strings.NewReader(text(explorer.FormatCSV))).ReadAll()
	if err != nil || len(rows) != 1+len(b.Rows) {
		t.Errorf("csv: %d rows, %v", len(rows), err)
	}
	var object struct {
		Rows    []map[string]any
		Summary string
	}
	if err := json.Unmarshal([]byte(text(explorer.FormatJSON)), &object); err != nil || len(object.Rows) != len(b.Rows) {
		t.Errorf("json: %d rows, %v", len(object.Rows), err)
	}
	line := regexp.MustCompile(`^Benchmark(Prefill|Generate)/subnet=\S+/context=\d+ \d+ \d+ ns/op \d+\.\d+ tokens/s( \d+ resident-B)?$`)
	for _, l := range strings.Split(strings.TrimSpace(text(explorer.FormatGo)), "\n") {
		if !line.MatchString(l) {
			t.Errorf("go: %q is no benchmark line", l)
		}
	}
	if _, err := explorer.FormatBench(b, "xml"); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("xml: %v", err)
	}
	if s := explorer.BenchSentence(b); s != object.Summary || !strings.Contains(s, "× faster") || !strings.Contains(s, "2048 tokens") || !strings.Contains(s, "× the perplexity") {
		t.Errorf("sentence %q", s)
	}
	if s := explorer.BenchSentence(explorer.Bench{}); s != "" {
		t.Errorf("a sentence about nothing: %q", s)
	}
}

func TestChatMarkdown(t *testing.T) {
	c := explorertest.Filled(t, explorertest.New()).Snapshot().Chats[0]
	c.System = "Be brief.\nBe kind."
	got := string(explorer.ChatMarkdown(c))
	for _, want := range []string{"# first words\n", "> Be brief.\n> Be kind.\n", "> What is a lathe?\n", "### dense\n", "### first cut\n", "tokens/s", "as the dense model would have said"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "## Prompt"); n != 2 {
		t.Errorf("%d prompts", n)
	}
}

func TestFitMachine(t *testing.T) {
	s := explorertest.Filled(t, explorertest.New()).Snapshot()
	all, err := explorer.FitMachine(s, 1<<40, 2048)
	if err != nil || all.Subnet != explorer.DenseID {
		t.Errorf("with all the memory there is: %+v, %v", all, err)
	}
	less, err := explorer.FitMachine(s, all.Memory-1, 2048)
	if err != nil || less.Subnet == explorer.DenseID || less.Memory >= all.Memory || less.Relative <= 1 {
		t.Errorf("with a byte less: %+v, %v", less, err)
	}
	if least, err := explorer.FitMachine(s, less.Memory-1, 2048); err != nil || least.Relative < less.Relative {
		t.Errorf("with less than that: %+v, %v", least, err)
	}
	if _, err := explorer.FitMachine(s, 1<<20, 2048); !errors.Is(err, explorer.ErrUnsupported) || !strings.Contains(err.Error(), "the smallest") {
		t.Errorf("with a megabyte: %v", err)
	}
	if _, err := explorer.FitMachine(s, 0, 2048); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("with nothing: %v", err)
	}
}

func TestRecipeRoundTrip(t *testing.T) {
	g := explorertest.Geometry()
	e := explorertest.Filled(t, explorertest.New())
	masks := e.Snapshot().Draft.Masks
	want := explorer.Recipe{Format: "lathe-recipe 1", Name: "a <b>", Masks: masksText(t, masks), Method: explorer.Method{Preset: "obs", Lambda: 0.1}}
	var b bytes.Buffer
	if err := explorer.WriteRecipe(&b, want); err != nil {
		t.Fatal(err)
	}
	got, read, err := explorer.ReadRecipe(&b, g)
	if err != nil || got.Name != want.Name || got.Method != want.Method || !read.Equal(masks) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "{}", `{"format":"lathe-recipe 2"}`, `{"format":"lathe-recipe 1","masks":"junk"}`, "[1]"} {
		if _, _, err := explorer.ReadRecipe(strings.NewReader(text), g); !errors.Is(err, explorer.ErrDamaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 98400000: "98.4 MB", 999600: "1.0 MB", 123456789012: "123 GB", -1500: "-1.5 kB"} {
		if got := explorer.FormatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
