package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/infer/subnet"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

func TestFormatBench(t *testing.T) {
	b := explorertest.Filled(t, explorertest.New()).Snapshot().Benches[0]
	text := func(format string) string {
		out, err := report.Bench(b, format)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := text(report.Text); strings.Count(got, "\n") != 1+len(b.Rows) || !strings.Contains(got, "first cut") {
		t.Errorf("text:\n%s", got)
	}
	rows, err := csv.NewReader(strings.NewReader(text(report.CSV))).ReadAll()
	if err != nil || len(rows) != 1+len(b.Rows) {
		t.Errorf("csv: %d rows, %v", len(rows), err)
	}
	var object struct {
		Rows    []map[string]any
		Summary string
	}
	if err := json.Unmarshal([]byte(text(report.JSON)), &object); err != nil || len(object.Rows) != len(b.Rows) {
		t.Errorf("json: %d rows, %v", len(object.Rows), err)
	}
	line := regexp.MustCompile(`^Benchmark(Prefill|Generate)/subnet=\S+/context=\d+ \d+ \d+ ns/op \d+\.\d+ tokens/s( \d+ resident-B)?$`)
	for _, l := range strings.Split(strings.TrimSpace(text(report.Go)), "\n") {
		if !line.MatchString(l) {
			t.Errorf("go: %q is no benchmark line", l)
		}
	}
	if _, err := report.Bench(b, "xml"); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("xml: %v", err)
	}
	if s := report.BenchSentence(b); s != object.Summary || !strings.Contains(s, "× faster") || !strings.Contains(s, "2048 tokens") || !strings.Contains(s, "× the perplexity") {
		t.Errorf("sentence %q", s)
	}
	if s := report.BenchSentence(explorer.Bench{}); s != "" {
		t.Errorf("a sentence about nothing: %q", s)
	}
}

func TestChatMarkdown(t *testing.T) {
	c := explorertest.Filled(t, explorertest.New()).Snapshot().Chats[0]
	c.System = "Be brief.\nBe kind."
	got := string(report.ChatMarkdown(c))
	for _, want := range []string{"# first words\n", "> Be brief.\n> Be kind.\n", "> What is a lathe?\n", "### dense\n", "### first cut\n", "tokens/s", "as the dense model would have written"} {
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
	all, err := report.FitMachine(s, 1<<40, 2048)
	if err != nil || all.Subnet != explorer.DenseID {
		t.Errorf("with all the memory there is: %+v, %v", all, err)
	}
	less, err := report.FitMachine(s, all.Memory-1, 2048)
	if err != nil || less.Subnet == explorer.DenseID || less.Memory >= all.Memory || less.Relative <= 1 {
		t.Errorf("with a byte less: %+v, %v", less, err)
	}
	if least, err := report.FitMachine(s, less.Memory-1, 2048); err != nil || least.Relative < less.Relative {
		t.Errorf("with less than that: %+v, %v", least, err)
	}
	if _, err := report.FitMachine(s, 1<<20, 2048); !errors.Is(err, explorer.ErrUnsupported) || !strings.Contains(err.Error(), "the smallest") {
		t.Errorf("with a megabyte: %v", err)
	}
	if _, err := report.FitMachine(s, 0, 2048); !errors.Is(err, explorer.ErrInvalid) {
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

func masksText(t *testing.T, m subnet.Masks) string {
	t.Helper()
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
