package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// protocolRecord is a record of WikiText-2 or of the Penn Treebank.
type protocolRecord struct {
	Text     string `parquet:"text"`
	Sentence string `parquet:"sentence"`
}

// serveProtocol serves the data sets of the paper's protocol, of which names are the files.
func serveProtocol(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	var file bytes.Buffer
	w := parquet.NewGenericWriter[protocolRecord](&file)
	var records []protocolRecord
	for i := range 60 {
		records = append(records, protocolRecord{"", ""}, protocolRecord{fmt.Sprintf(" = Wood %d = \n", i), fmt.Sprintf("chips fall %d", i)})
	}
	if _, err := w.Write(records); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", file.Len(), file.Bytes()))
	names := map[string][]string{
		"Salesforce/wikitext":         {"wikitext-2-raw-v1/test/0000.parquet", "wikitext-2-raw-v1/train/0000.parquet"},
		"ptb-text-only/ptb_text_only": {"penn_treebank/test/0000.parquet"},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for id, files := range names {
			if r.URL.EscapedPath() == "/api/datasets/"+id+"/revision/refs%2Fconvert%2Fparquet" {
				var siblings []map[string]any
				for _, name := range files {
					siblings = append(siblings, map[string]any{"rfilename": name, "size": file.Len(), "blobId": hex.EncodeToString(sum[:])})
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "sha": commit, "siblings": siblings})
				return
			}
			for _, name := range files {
				if r.URL.EscapedPath() == "/datasets/"+id+"/resolve/"+commit+"/"+name {
					_, _ = w.Write(file.Bytes())
					return
				}
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
}

// TestProtocolTexts fetches the texts of the paper's protocol by their names on the hub, joins them as published evaluations do, and
// calibrates and measures on them with the paper's settings; offline the second time, from the cache.
func TestProtocolTexts(t *testing.T) {
	serveProtocol(t)
	home := t.TempDir()
	model := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(model, []byte("fake"), 0o644); err != nil {
		t.Fatal(err)
	}
	compare := func(home string, environ []string, args ...string) (status int, out, complaint string) {
		var stdout, stderr bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: variable(append(environ, "HF_HOME="+home, "HOME="+home))}
		b := explorertest.New()
		a.backend = func(string) (explorer.Backend, error) { return existing{b}, nil }
		status = run(t.Context(), a, append([]string{"compare", model, "--protocol", "paper", "--ratios", "0.8"}, args...))
		return status, stdout.String(), stderr.String()
	}
	for _, environ := range [][]string{nil, {"HF_HUB_OFFLINE=1"}} {
		status, out, complaint := compare(home, environ, "--methods", "flap,search:paper", "--budget", "evals=20", "--json")
		var r compareResult
		if err := json.Unmarshal([]byte(out), &r); status != exitOK || err != nil {
			t.Fatalf("status %d, %v, %q", status, err, complaint)
		}
		if len(r.Texts) != 2 || r.Texts[0].Name != "wikitext2" || r.Texts[1].Name != "ptb" || filepath.Base(r.Texts[1].Dense.Conditions.Text.Path) != "ptb-test.txt" {
			t.Errorf("texts %+v", r.Texts)
		}
		if len(r.Rows) != 2 || r.Rows[0].Method != "flap" || r.Rows[1].Method != "search:paper" || r.Rows[0].Err+r.Rows[1].Err != "" || len(r.Rows[1].On) != 2 {
			t.Errorf("rows %+v", r.Rows)
		}
	}
	if status, _, complaint := compare(t.TempDir(), []string{"HF_HUB_OFFLINE=1"}); status == exitOK || !strings.Contains(complaint, "--text FILE") || !strings.Contains(complaint, "HF_HUB_OFFLINE") {
		t.Errorf("offline and not in the cache: status %d, %q", status, complaint)
	}

	// What the files of the protocol contain.
	a := &app{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer), getenv: variable([]string{"HF_HOME=" + home, "HOME=" + home})}
	cmd := a.compareCommand()
	cmd.SetContext(t.Context())
	f := compareFlags{protocol: protocolPaper}
	f.choose(cmd)
	remove, err := a.protocolTexts(cmd, &f)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{f.cut.Calibration.Text: "\n\n = Wood 0 = \n\n\n\n\n = Wood 1 = \n", f.texts.list[1].path: " chips fall 0  chips fall 1"} {
		if got, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %.60q, %v, want %q", path, got, err, want)
		}
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.texts.list[0].path); !os.IsNotExist(err) {
		t.Errorf("the texts stay: %v", err)
	}
	if f.cut.Calibration.Windows != 128 || f.cut.Calibration.Seq != 2048 || f.test.Windows != 0 || f.test.Seq != 2048 || f.test.BOS != explorer.BOSAutoFirst || f.budget != "none" {
		t.Errorf("settings %+v", f)
	}
}

// TestPublished finds the paper's figures by the shape of a model.
func TestPublished(t *testing.T) {
	shape := func(arch string, layers, hidden, ffn int) *subnet.Geometry {
		g := &subnet.Geometry{Arch: arch, Hidden: hidden}
		for range layers {
			g.Layers = append(g.Layers, subnet.LayerGeometry{FFN: ffn})
		}
		return g
	}
	p := publishedFor(shape("llama", 32, 4096, 11008))
	if p == nil || p.Model != "LLaMA-7B" || math.Abs(p.Wiki[2]/p.Wiki[0]-1.21) > 0.005 {
		t.Errorf("%+v", p)
	}
	var b bytes.Buffer
	p.words(&b)
	if !strings.Contains(b.String(), "0.8    6.89        1.213    36.06   1.319") {
		t.Error(b.String())
	}
	if p := publishedFor(shape("llama", 32, 4096, 14336)); p != nil {
		t.Errorf("another model has the figures of %s", p.Model)
	}
	for _, p := range published() {
		if len(p.Wiki) != len(p.Ratio) || len(p.PTB) != len(p.Ratio) || !slices.IsSorted(p.Wiki) {
			t.Errorf("%s: %v, %v, %v", p.Model, p.Ratio, p.Wiki, p.PTB)
		}
	}
}

// TestCompareFigure draws two texts, with a method that failed once and one that is far off.
func TestCompareFigure(t *testing.T) {
	r := compareResult{Texts: []compareText{{Name: "wiki & co"}, {Name: "web"}}}
	for _, row := range []struct {
		method  string
		ratio   float64
		a, b, e float64
	}{{"flap", 0.9, 1.1, 1.2, 0.01}, {"flap", 0.5, 4, 900, 0.2}, {"obs", 0.9, 1.05, 1.3, 0}} {
		on := func(v float64) compareOn {
			return compareOn{Relative: v, Distance: &explorer.Distance{RelativeError: row.e}}
		}
		r.Rows = append(r.Rows, compareRow{Method: row.method, Ratio: row.ratio, Share: row.ratio - 0.01, On: []compareOn{on(row.a), on(row.b)}})
	}
	r.Rows = append(r.Rows, compareRow{Method: "obs", Ratio: 0.5, Err: "too small"})
	svg := r.figure()
	if err := xml.Unmarshal(svg, new(struct{ XMLName xml.Name })); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"wiki &amp; co", ">flap<", ">obs<", "flap at 0.490: 900.000"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("the figure lacks %q", want)
		}
	}
	if n := bytes.Count(svg, []byte("<circle")); n != 2+6 {
		t.Errorf("%d points, want 8", n)
	}
	if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
		t.Error("a coordinate is no number")
	}
	var b bytes.Buffer
	r.charts(&b)
	if out := b.String(); strings.Count(out, "loss over dense") != 2 || !strings.Contains(out, "@ dense · a flap · b obs") {
		t.Error(out)
	}
	for _, most := range []float64{1.1, 1.3, 1.41, 3, 9, 700, 1e6} {
		ticks := relativeTicks(most)
		if len(ticks) < 3 && most > 1.1 || len(ticks) > 9 || !slices.IsSorted(ticks) || ticks[len(ticks)-1] > most {
			t.Errorf("ticks to %g: %v", most, ticks)
		}
	}
}

// TestInterruptedComparison shows the results that there are.
func TestInterruptedComparison(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(model, []byte("fake"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: variable([]string{"HOME=" + t.TempDir()})}
	b := explorertest.New()
	cuts := 0
	b.Refitting = func(explorer.ReformOptions) {
		if cuts++; cuts == 2 {
			cancel()
		}
	}
	a.backend = func(string) (explorer.Backend, error) { return existing{b}, nil }
	status := run(ctx, a, []string{"compare", model, "--methods", "flap", "--ratios", "0.9,0.8,0.7", "--json"})
	var r compareResult
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || status == exitOK {
		t.Fatalf("status %d, %v, %q", status, err, stderr.String())
	}
	if !r.Interrupted || len(r.Rows) != 1 || r.Rows[0].Ratio != 0.9 || r.Rows[0].Relative <= 1 {
		t.Errorf("interrupted %t, rows %+v", r.Interrupted, r.Rows)
	}
}

// TestWordsOfUnmeasuredRows keeps the columns of a row that nothing was measured of.
func TestWordsOfUnmeasuredRows(t *testing.T) {
	r := compareResult{
		Texts: []compareText{{Name: "wiki"}, {Name: "web"}}, Tasks: newTaskScores([]quality.EvalResult{{Task: "piqa", Questions: 10, Acc: 0.7}}),
		Rows: []compareRow{{Method: "obs", Ratio: 0.8, Share: 0.79, Seconds: 12.5}}, Interrupted: true,
	}
	var b bytes.Buffer
	r.words(&b)
	lines := strings.Split(b.String(), "\n")
	column := func(line, cell string) int {
		before, _, _ := strings.Cut(line, cell)
		return utf8.RuneCountInString(before)
	}
	if column(lines[2], "12.5 s") < column(lines[0], "piqa") {
		t.Errorf("the time is in the column of a measurement:\n%s", b.String())
	}
}

// TestComparisonWithoutWorkers reports why workers have not measured a subnet, which is then measured here.
func TestComparisonWithoutWorkers(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(model, []byte("fake"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: variable([]string{"HOME=" + t.TempDir()})}
	b := explorertest.New()
	var cut atomic.Bool
	b.Refitting = func(explorer.ReformOptions) { cut.Store(true) }
	b.Pace = func(_ context.Context, unit string) error {
		if unit == "windows" && cut.CompareAndSwap(true, false) {
			return errors.New("the server is away")
		}
		return nil
	}
	a.backend = func(string) (explorer.Backend, error) { return existing{b}, nil }
	status := run(t.Context(), a, []string{"compare", model, "--methods", "flap", "--ratios", "0.8", "--workers", "2", "--json"})
	var r compareResult
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || status != exitOK {
		t.Fatalf("status %d, %v, %q", status, err, stderr.String())
	}
	if len(r.Rows) != 1 || r.Rows[0].Err != "" || r.Rows[0].Relative <= 1 {
		t.Errorf("rows %+v", r.Rows)
	}
	if got := stderr.String(); !strings.Contains(got, "lathe: workers: ") || !strings.Contains(got, "the server is away") {
		t.Errorf("no reason in %q", got)
	}
}

// TestMedians takes medians over seeds, of those that did not fail.
func TestMedians(t *testing.T) {
	r := compareResult{Texts: []compareText{{Name: "wiki"}}}
	for seed, v := range []float64{1.3, 1.1, 0, 1.2, 1.9} {
		row := compareRow{Method: "obs", Ratio: 0.8, Share: 0.79, Seed: uint64(seed + 1), On: []compareOn{{Text: "wiki", Relative: v}}}
		if v == 0 {
			row.Err = "failed"
		}
		r.Rows = append(r.Rows, row)
	}
	r.Rows = append(r.Rows, compareRow{Method: "obs", Tuned: true, Ratio: 0.8, Seed: 1, On: []compareOn{{Text: "wiki", Relative: 1.05}}})
	r.Rows[0].Kept = explorer.KeptOriginal
	r.Medians = r.groups()
	if len(r.Medians) != 2 || r.Medians[0].Seeds != 4 || r.Medians[0].On[0] != (compareRange{"wiki", 1.25, 1.1, 1.9}) || r.Medians[1].Method != "obs tuned" {
		t.Errorf("%+v", r.Medians)
	}
	var b bytes.Buffer
	r.words(&b)
	for _, want := range []string{"obs, seed 1 *", "* the re-fit was worse", "obs, seed 4", "1.250 (1.100 to 1.900)", "  obs            1.250 #"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestTaskScores(t *testing.T) {
	norm, normErr := 0.5, 0.04
	s := newTaskScores([]quality.EvalResult{{Task: "piqa", Questions: 10, Acc: 0.7, AccErr: 0.02, AccNorm: &norm, AccNormErr: &normErr}, {Task: "boolq", Questions: 20, Acc: 0.9, AccErr: 0.03}})
	if math.Abs(s.Mean-0.7) > 1e-12 || math.Abs(s.MeanErr-0.025) > 1e-12 || s.questions() != "10 to 20 questions" {
		t.Errorf("%+v, %s", s, s.questions())
	}
	if got := s.cells(); !slices.Equal(got, []string{"50.0 ±4.0", "90.0 ±3.0", "70.0 ±2.5"}) {
		t.Errorf("cells %q", got)
	}
}
