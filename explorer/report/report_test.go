package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"slices"
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
	if got := text(report.Text); strings.Count(got, "\n") != 2+len(b.Rows) || !strings.Contains(got, "first cut") {
		t.Errorf("text:\n%s", got)
	}
	rows, err := csv.NewReader(strings.NewReader(text(report.CSV))).ReadAll()
	if err != nil || len(rows) != 1+len(b.Rows) {
		t.Errorf("csv: %d rows, %v", len(rows), err)
	}
	var object struct {
		Rows    []map[string]any
		Summary []string
		Busy    *bool
	}
	if err := json.Unmarshal([]byte(text(report.JSON)), &object); err != nil || len(object.Rows) != len(b.Rows) || object.Busy == nil || *object.Busy {
		t.Errorf("json: %d rows, busy %v, %v", len(object.Rows), object.Busy, err)
	}
	line := regexp.MustCompile(`^Benchmark(Prompt|Generate)/subnet=\S+/test=(pp512|tg128)(@d2048)? \d+ \d+ ns/op \d+\.\d+ tokens/s( \d+ resident-B)?$`)
	for _, l := range strings.Split(strings.TrimSpace(text(report.Go)), "\n") {
		if !line.MatchString(l) {
			t.Errorf("go: %q is no benchmark line", l)
		}
	}
	if _, err := report.Bench(b, "xml"); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("xml: %v", err)
	}
	summary := report.BenchSummary(b)
	if len(summary) != 2 || !slices.Equal(summary, object.Summary) {
		t.Errorf("summary %q, in JSON %q", summary, object.Summary)
	}
	for _, want := range []string{"first cut: ", "× faster (all tests)", "× the perplexity", "of the memory"} {
		if !strings.Contains(summary[0], want) {
			t.Errorf("no %q in %q", want, summary[0])
		}
	}
	if s := report.BenchSummary(explorer.Bench{}); s != nil {
		t.Errorf("a summary of nothing: %q", s)
	}
}

// TestBenchDifference: speeds whose spreads overlap show no difference, every test is compared, and a busy machine is named.
func TestBenchDifference(t *testing.T) {
	row := func(id explorer.SubnetID, test string, mean, deviation float64, runs int) explorer.BenchRow {
		return explorer.BenchRow{Subnet: id, Label: string(id), Test: test, Speed: explorer.Spread{Mean: mean, Deviation: deviation, Runs: runs}}
	}
	b := explorer.Bench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{explorer.DenseID, "s1"}}, Others: 1.9, Cores: 2, Rows: []explorer.BenchRow{
		row("dense", "tg64@d64", 1.5, 1.2, 3), row("dense", "tg64@d128", 0.9, 0.5, 3), row("dense", "pp512", 100, 1, 3), row("dense", "tg64", 10, 0, 1), row("dense", "pp64", 10, 1, 3),
		row("s1", "tg64@d64", 0.6, 0, 3), row("s1", "tg64@d128", 1.8, 0.4, 3), row("s1", "pp512", 120, 2, 3), row("s1", "tg64", 20, 0, 1), row("s1", "pp64", 5, 1, 3),
	}}
	for i, want := range []string{"no difference", "no difference", "1.20 × faster", "one run, not compared", "2.00 × slower"} {
		if d, ok := report.Difference(b, b.Rows[5+i]); !ok || d.String() != want {
			t.Errorf("%s: %q, %v, want %q", b.Rows[5+i].Test, d, ok, want)
		}
	}
	if _, ok := report.Difference(b, b.Rows[0]); ok {
		t.Error("the dense model is compared with itself")
	}
	want := []string{"s1: no difference (tg64@d64, tg64@d128), 1.20 × faster (pp512), one run, not compared (tg64), 2.00 × slower (pp64)",
		"other programs use 1.9 of 2 processors: measure again on an idle machine"}
	if got := report.BenchSummary(b); !slices.Equal(got, want) {
		t.Errorf("summary %q, want %q", got, want)
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

// TestPlanFit checks the room of plans: what runs with a smaller vocabulary has its logits in it, and a speed bounds weights instead.
func TestPlanFit(t *testing.T) {
	s := explorertest.Filled(t, explorertest.New()).Snapshot()
	g := s.Model.Geometry
	asked := report.FitAsked{Limit: 150e6, Context: 2048, Vocab: report.DefaultVocab(s.Model)}
	auto, err := report.PlanFit(s, asked, 0)
	if err != nil || !asked.Vocab.Auto || auto.Target == "" || auto.Entry != 2048 {
		t.Fatalf("%+v, error %v", auto, err)
	}
	asked.Vocab = explorer.VocabSize{}
	whole, err := report.PlanFit(s, asked, 0)
	if err != nil || whole.Entry != 0 || auto.Room-whole.Room != 2048*int64(g.Vocab) || whole.Room != asked.Limit-whole.Working || whole.Besides() != whole.Working {
		t.Errorf("with the whole vocabulary %+v, error %v", whole, err)
	}
	if c := auto.Command(0.5); c.EntryBytes != 2048 || !c.Vocab.Auto || c.Target.Value != float64(auto.Room/2) || c.Target.Context != 2048 {
		t.Errorf("half of it is %+v", c)
	}
	// The memory of a subnet is that of its own logits.
	half, err := subnet.Dense(g).WithVocab(subnet.Range(g.Vocab, 0, g.Vocab/2))
	if err != nil {
		t.Fatal(err)
	}
	files := s.Model.FileSize(subnet.Dense(g), "").Tensors - s.Model.FileSize(half, "").Tensors
	if saved := report.MemoryFor(s.Model, subnet.Dense(g), 2048) - report.MemoryFor(s.Model, half, 2048); saved-files != 2048*int64(g.Vocab-g.Vocab/2) {
		t.Errorf("half of the vocabulary saves %d bytes, %d of them weights", saved, files)
	}
	asked.Vocab.Auto = true
	asked.Limit, asked.Speed = 1<<40, 20
	fast, err := report.PlanFit(s, asked, 10)
	if cache := subnet.Dense(g).Size().KVBytes(2048); err != nil || fast.Entry != 0 || fast.Room != s.Model.FileSize(subnet.Dense(g), "").Tensors/2+cache {
		t.Errorf("at twice the speed %+v, error %v", fast, err)
	}
	asked.Speed = 1
	if fits, err := report.PlanFit(s, asked, 10); err != nil || fits.Target != "" || !strings.Contains(fits.Words()[2], "the model itself fits") {
		t.Errorf("with room for all %+v, error %v", fits, err)
	}
	asked.Speed = 1e6
	if _, err := report.PlanFit(s, asked, 10); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), "less than any subnet") {
		t.Errorf("a speed out of reach: %v", err)
	}
	asked.Speed, asked.Limit = 0, 1e6
	if _, err := report.PlanFit(s, asked, 0); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("a megabyte: %v", err)
	}
	fixed := s.Model
	fixed.WholeVocab = "no such vocabulary"
	if report.DefaultVocab(fixed).On() {
		t.Error("a vocabulary that cannot be trimmed is chosen by default")
	}
}

func TestRecipeRoundTrip(t *testing.T) {
	g := explorertest.Geometry()
	e := explorertest.Filled(t, explorertest.New())
	masks := e.Snapshot().Draft.Masks
	lambda := 0.1
	want := explorer.Recipe{Format: "lathe-recipe 1", Name: "a <b>", Masks: masksText(t, masks), Method: explorer.Method{Preset: "obs", Lambda: &lambda}}
	var b bytes.Buffer
	if err := explorer.WriteRecipe(&b, want); err != nil {
		t.Fatal(err)
	}
	got, read, err := explorer.ReadRecipe(&b, g)
	if err != nil || got.Name != want.Name || !reflect.DeepEqual(got.Method, want.Method) || !read.Equal(masks) {
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

// TestBenchOfOneRun: a single run has no deviation, and nothing follows from it.
func TestBenchOfOneRun(t *testing.T) {
	b := explorer.Bench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{explorer.DenseID, "s1"}, Repeats: 1}}
	for id, mean := range map[explorer.SubnetID]float64{explorer.DenseID: 0.5, "s1": 1.3} {
		b.Rows = append(b.Rows, explorer.BenchRow{Subnet: id, Label: string(id), Test: "tg16", Generate: 16, Speed: explorer.Spread{Mean: mean, Runs: 1}},
			explorer.BenchRow{Subnet: id, Label: string(id), Test: "pp64", Prompt: 64, Speed: explorer.Spread{Mean: 10 * mean, Runs: 1}})
	}
	for _, as := range []string{report.Text, report.JSON} {
		out, err := report.Bench(b, as)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"±", "no difference", "speed_differs"} {
			if strings.Contains(string(out), bad) {
				t.Errorf("%q in %s:\n%s", bad, as, out)
			}
		}
	}
	if out, _ := report.Bench(b, report.Text); !strings.Contains(string(out), "ms/token") || !strings.Contains(string(out), "s/prompt") {
		t.Errorf("times without what they are of:\n%s", out)
	}
	if got, want := report.BenchSummary(b), []string{"s1: one run, not compared (all tests)"}; !slices.Equal(got, want) {
		t.Errorf("summary %q, want %q", got, want)
	}
}
