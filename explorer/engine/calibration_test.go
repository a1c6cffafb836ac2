package engine

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/conversation"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// file writes a text of numbered documents of one line.
func file(t *testing.T, name, word string, documents int) string {
	t.Helper()
	var b strings.Builder
	for i := range documents {
		fmt.Fprintf(&b, "%s%04d %s\n", word, i, strings.Repeat(word+" ", 120))
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// texts returns the windows of a passage as text.
func (p passage) texts(t *testing.T, m *model) []string {
	t.Helper()
	load, err := m.tokenizer(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = load.Close() }()
	var out []string
	for _, w := range p.windows {
		text, err := load.Detokenize(t.Context(), w[1:]) // after the start token
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	return out
}

func TestMix(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	ctx, mon := t.Context(), &quiet{}
	c := explorer.Calibration{Seq: 64, Mix: []explorer.MixText{
		{Name: "alpha", Path: file(t, "a.txt", "alpha", 60), Share: 0.5}, {Name: "beta", Path: file(t, "b.txt", "beta", 60), Share: 0.5},
	}}
	p, err := m.calibration(ctx, c, 8, false, mon)
	if err != nil {
		t.Fatal(err)
	}
	texts := p.texts(t, m)
	for i, text := range texts {
		want := []string{"alpha", "beta"}[p.of[i]]
		if text = strings.TrimSpace(text); !strings.HasPrefix(text, want+"0") || len(p.windows[i]) != 64 {
			t.Errorf("window %d of %d tokens begins inside a document or is of another text: %.20q", i, len(p.windows[i]), text)
		}
	}
	if len(texts) != 8 || strings.Contains(strings.Join(texts[:4], ""), "alpha0000") && strings.Contains(strings.Join(texts, ""), "alpha0001") {
		t.Errorf("windows from the start of the text: %.20q", texts)
	}
	if len(p.end) != 2 || len(mon.notes) != 0 {
		t.Errorf("%d ends of %d tokens, notes %q", len(p.end), quickSeq, mon.notes)
	}
	same := func(change func(*explorer.Calibration)) bool {
		other := c
		other.Mix = slices.Clone(c.Mix)
		change(&other)
		q, err := m.calibration(ctx, other, 8, false, mon)
		if err != nil {
			t.Fatal(err)
		}
		return q.id() == p.id() && slices.EqualFunc(q.windows, p.windows, slices.Equal[[]int32])
	}
	if !same(func(*explorer.Calibration) {}) {
		t.Error("the same seed gives other windows")
	}
	if same(func(c *explorer.Calibration) { c.Seed = 2 }) {
		t.Error("another seed gives the same windows")
	}
	if same(func(c *explorer.Calibration) { c.Mix[0].Share, c.Mix[1].Share = 0.6, 0.4 }) {
		t.Error("other shares have the same id and windows")
	}
	first := c
	first.Of = 8
	q, err := m.calibration(ctx, first, 3, false, mon)
	if err != nil || !slices.EqualFunc(q.windows, p.windows[:3], slices.Equal[[]int32]) {
		t.Errorf("the first windows of a draw are others, error %v", err)
	}
	var got explorer.Method
	p.describe(&got, 3)
	if got.Drawn != 8 || got.Windows != 3 || got.Mix[0].Windows+got.Mix[1].Windows != 3 || strings.Contains(fmt.Sprint(got), filepath.Dir(c.Mix[0].Path)) {
		t.Errorf("method %+v", got)
	}
}

// TestStatisticsAreKeyedByTheMix gathers on one mix after another.
func TestStatisticsAreKeyedByTheMix(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	dir := t.TempDir()
	c := explorer.Calibration{Windows: 2, Seq: 32, Mix: []explorer.MixText{{Name: "alpha", Path: file(t, "a.txt", "alpha", 60)}, {Name: "beta", Path: file(t, "b.txt", "beta", 60)}}}
	gather := func(c explorer.Calibration) explorer.Statistics {
		s, err := m.Gather(t.Context(), explorer.GatherStatistics{Calibration: c}, dir, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := gather(c)
	if again := gather(c); !again.Gathered.Equal(first.Gathered) {
		t.Error("the same mix is gathered again")
	}
	c.Seed = 2
	if other := gather(c); other.Gathered.Equal(first.Gathered) {
		t.Error("statistics of other windows are used")
	}
	c.Mix = []explorer.MixText{{Name: "alpha", Path: c.Mix[0].Path, Share: 0.9}, {Name: "beta", Path: c.Mix[1].Path, Share: 0.1}}
	if other := gather(c); other.Text.SHA256 == first.Text.SHA256 {
		t.Error("statistics of other shares are used")
	}
}

// TestSearchOnAMix resumes a search on a mix, which has its own windows.
func TestSearchOnAMix(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	dir := t.TempDir()
	r := asked("", 20)
	r.Calibration = explorer.Calibration{Seq: 32, Draw: explorer.DrawWhole, Mix: []explorer.MixText{{Name: "alpha", Path: file(t, "a.txt", "alpha", 30)}, {Name: "beta", Path: file(t, "b.txt", "beta", 30)}}}
	r.Budget.Seconds = 600
	first, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{})
	if err != nil || len(first.Method.Mix) != 2 {
		t.Fatalf("%+v, error %v", first.Method, err)
	}
	r.Resume, r.Budget = true, explorer.Budget{Evaluations: 40}
	if _, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{}); err != nil {
		t.Errorf("resumed: %v", err)
	}
	r.Calibration.Mix[0].Path = r.Calibration.Mix[1].Path
	if _, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{}); err == nil {
		t.Error("it is resumed on another mix")
	}
}

func TestCalibrationReports(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	ctx := t.Context()
	long, short := file(t, "long.txt", "long", 60), file(t, "short.txt", "short", 1)
	notes := func(c explorer.Calibration, n int) (passage, string) {
		t.Helper()
		mon := &quiet{}
		p, err := m.calibration(ctx, c, n, false, mon)
		if err != nil {
			t.Fatal(err)
		}
		return p, strings.Join(mon.notes, "\n")
	}
	p, said := notes(explorer.Calibration{Text: short, Seq: 256}, 0)
	if n := len(p.windows); n == 0 || n >= defaultWindows || !strings.Contains(said, fmt.Sprintf("has %d windows of 256 tokens, not 8", n)) {
		t.Errorf("a text shorter than 8 windows: %d windows, notes %q", n, said)
	}
	p, said = notes(explorer.Calibration{Seq: 256, Mix: []explorer.MixText{{Name: "long", Path: long}, {Name: "short", Path: short}}}, 8)
	if len(p.windows) != 8 || !strings.Contains(said, "short has ") {
		t.Errorf("a short text of a mix: %d windows, notes %q", len(p.windows), said)
	}
	script := filepath.Join(t.TempDir(), "script.txt")
	if err := os.WriteFile(script, []byte(strings.Repeat("Δοκιμή του κειμένου 日本語 ", 400)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said = notes(explorer.Calibration{Text: script, Seq: 64}, 4); !strings.Contains(said, "tokens per character") {
		t.Errorf("another script: notes %q", said)
	}
	if _, said = notes(explorer.Calibration{Text: long, Seq: 64}, 4); said != "" {
		t.Errorf("notes %q", said)
	}
	none := filepath.Join(t.TempDir(), "none.txt")
	for name, c := range map[string]struct {
		c    explorer.Calibration
		n    int
		want string
	}{
		"missing":          {explorer.Calibration{Mix: []explorer.MixText{{Name: "long", Path: long}, {Name: "gone", Path: none}}}, 0, "the text gone of the mix"},
		"no web":           {explorer.Calibration{Text: explorer.TextWeb}, 0, "--text web=FILE"},
		"hub":              {explorer.Calibration{Text: "allenai/c4"}, 0, "hub:allenai/c4"},
		"too many windows": {explorer.Calibration{Text: short, Seq: 256}, 100, "100 windows"},
		"of a mix":         {explorer.Calibration{Seq: 256, Mix: []explorer.MixText{{Name: "a", Path: short}, {Name: "b", Path: short}}}, 100, "not 100"},
		"no window":        {explorer.Calibration{Text: short, Seq: 1 << 20}, 0, "a window needs"},
	} {
		if _, err := m.calibration(ctx, c.c, c.n, false, &quiet{}); !errors.Is(err, explorer.ErrText) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.calibration(ctx, explorer.Calibration{Text: explorer.TextChat}, 0, false, &quiet{}); !errors.Is(err, explorer.ErrUnsupported) {
		t.Errorf("conversations of an engine without: %v", err)
	}
}

// TestDrawStart takes the windows that earlier versions took.
func TestDrawStart(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	path := file(t, "a.txt", "alpha", 60)
	want, err := m.passage(t.Context(), path, take{windows: 3, seq: 64})
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.calibration(t.Context(), explorer.Calibration{Text: path, Seq: 64, Draw: explorer.DrawStart}, 3, false, &quiet{})
	if err != nil || got.id() != want.id() || !slices.EqualFunc(got.windows, want.windows, slices.Equal[[]int32]) {
		t.Errorf("other windows, error %v", err)
	}
	mon := &quiet{}
	if got, err = m.calibration(t.Context(), explorer.Calibration{Text: path, Seq: 8192, Draw: explorer.DrawStart}, 0, false, mon); err != nil || len(got.windows) == 0 || len(mon.notes) == 0 {
		t.Errorf("%d windows, notes %q, error %v", len(got.windows), mon.notes, err)
	}
}

// TestWebTextLeavesTests draws from the web text after what tests use.
func TestWebTextLeavesTests(t *testing.T) {
	b := newEngine(t)
	b.options.Web = file(t, "c4.utf8", "page", 200)
	m := open(t, b, gguftest.Tiny("llama"))
	src, err := m.sources(t.Context(), explorer.Calibration{Text: explorer.TextWeb}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(b.options.Web)
	if err != nil {
		t.Fatal(err)
	}
	text := src.texts[0].texts[0]
	if at := len(whole) - len(text); !strings.HasSuffix(string(whole), text) || at < testBytes || at > testBytes+1000 || !strings.HasPrefix(text, "page") {
		t.Errorf("it begins after %d bytes: %.20q", at, text)
	}
	b.options.Web = file(t, "c4.utf8", "page", 60)
	if _, err := m.sources(t.Context(), explorer.Calibration{Text: explorer.TextWeb}, &quiet{}); !errors.Is(err, explorer.ErrText) {
		t.Errorf("nothing but tests: %v", err)
	}
}

func TestDefaultMix(t *testing.T) {
	b := newEngine(t)
	b.options.Web, b.options.Conversation, b.options.Conversations = file(t, "c4.utf8", "page", 200), 256, t.TempDir()
	b.options.Code = file(t, "code.utf8", "func", 200)
	path0 := gguftest.Write(t, gguftest.Tiny("llama"))
	opened := func() *model {
		m, err := b.Open(t.Context(), path0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m.(*model)
	}
	m := opened()
	mon := &quiet{}
	p, err := m.calibration(t.Context(), explorer.Calibration{Seq: 32}, 10, false, mon)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, part := range p.mix {
		names = append(names, part.Name)
	}
	if !slices.Equal(names, explorer.BuiltInTexts()) || p.ref.Path != "wiki 0.3, web 0.3, code 0.2, chat 0.2" || mon.gates == 0 {
		t.Errorf("%v, %q, %d gates, notes %q", names, p.ref.Path, mon.gates, mon.notes)
	}
	hash, err := m.SHA256(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	documents, err := conversation.Load(b.options.Conversations, hash)
	if err != nil || len(documents) == 0 {
		t.Fatalf("%d conversations are kept, error %v", len(documents), err)
	}

	// What is kept is used, and another file than ours is replaced.
	path := conversation.Path(b.options.Conversations, hash)
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var content map[string]any
	if err := json.Unmarshal(kept, &content); err != nil {
		t.Fatal(err)
	}
	content["documents"] = []string{strings.Repeat("kept words ", 500)}
	if kept, err = json.Marshal(content); err == nil {
		err = os.WriteFile(path, kept, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := opened().conversations(t.Context(), &quiet{})
	if err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "kept words") {
		t.Errorf("%.40q, error %v", got, err)
	}
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	mon = &quiet{}
	if got, err = opened().conversations(t.Context(), mon); err != nil || !slices.Equal(got, documents) || len(mon.notes) != 1 || !strings.Contains(mon.notes[0], path) {
		t.Errorf("after junk: %d conversations of %d, notes %q, error %v", len(got), len(documents), mon.notes, err)
	}
}

// TestDefaultMixGoesWithout calibrates where texts of the default mix cannot be had.
func TestDefaultMixGoesWithout(t *testing.T) {
	b := newEngine(t)
	b.options.Web, b.options.Conversation = filepath.Join(t.TempDir(), "none.utf8"), 256
	m := open(t, b, gguftest.Tiny("opt"))
	mon := &quiet{}
	p, err := m.calibration(t.Context(), explorer.Calibration{Seq: 32}, 4, false, mon)
	said := strings.Join(mon.notes, "\n")
	if err != nil || len(p.windows) != 4 || p.ref.Path != b.options.Text || !strings.Contains(said, "without web") || !strings.Contains(said, "without chat") || !strings.Contains(said, "no runtime for OPT") {
		t.Errorf("%d windows of %s, notes %q, error %v", len(p.windows), p.ref.Path, said, err)
	}
	c := explorer.Calibration{Seq: 32, Mix: []explorer.MixText{{Name: explorer.TextWiki}, {Name: explorer.TextChat}}}
	if _, err := m.calibration(t.Context(), c, 4, false, &quiet{}); !errors.Is(err, explorer.ErrUnsupported) || !strings.Contains(err.Error(), "chat") {
		t.Errorf("a mix that names what cannot be had: %v", err)
	}
}

// TestDataSets calibrates on JSON lines, and on a data set of a hub, whose records are documents.
func TestDataSets(t *testing.T) {
	var lines bytes.Buffer
	for i := range 60 {
		fmt.Fprintf(&lines, "{\"id\": %d, \"body\": \"gamma%04d %s\"}\n", i, i, strings.Repeat("gamma ", 40))
	}
	const commit, name = "0123456789abcdef0123456789abcdef01234567", "data/train-00000-of-00002.jsonl"
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", lines.Len(), lines.Bytes()))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/api/datasets/someone/pages/revision/main":
			_ = json.NewEncoder(w).Encode(map[string]any{"id": "someone/pages", "sha": commit, "siblings": []map[string]any{
				{"rfilename": "README.md", "size": 1}, {"rfilename": name, "size": lines.Len(), "blobId": hex.EncodeToString(sum[:])},
			}})
		case "/datasets/someone/pages/resolve/" + commit + "/" + name:
			_, _ = w.Write(lines.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
	t.Setenv("HF_HOME", t.TempDir())
	local := filepath.Join(t.TempDir(), "pages.jsonl")
	if err := os.WriteFile(local, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	var windows [][]string
	for _, text := range []string{local, local + "#body", "hub:someone/pages", "hub:someone/pages/default/train#body", "code=hub:someone/pages:1"} {
		var c explorer.Calibration
		if err := c.SetTexts([]string{text}); err != nil {
			t.Fatal(err)
		}
		c.Seq = 64
		p, err := m.calibration(t.Context(), c, 4, false, &quiet{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		windows = append(windows, p.texts(t, m))
		if !slices.Equal(windows[0], windows[len(windows)-1]) || !strings.HasPrefix(strings.TrimSpace(windows[0][0]), "gamma0") {
			t.Errorf("%s: %.40q", text, windows[len(windows)-1])
		}
		if strings.HasPrefix(text, explorer.HubText) && p.ref.Path != text {
			t.Errorf("%s: recorded as %s", text, p.ref.Path)
		}
	}
	for text, want := range map[string]string{
		"hub:someone/pages/other": "no split train of the configuration other: it has default/train", "hub:someone/pages/default/test": "no split test",
		"hub:pages": "hub:OWNER/NAME", "hub:someone/none": "hub:someone/none", local + "#title": `in the field "title"`, "someone/pages": "hub:someone/pages",
	} {
		if _, err := m.calibration(t.Context(), explorer.Calibration{Text: text, Seq: 64}, 4, false, &quiet{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
