package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/remote"
)

// FuzzPassage reads altered passages, as workers get them: they are refused, or all their tokens are the model's.
func FuzzPassage(f *testing.F) {
	for _, p := range []storedPassage{
		{Windows: [][]int32{{1, 2, 3}, {4, 5, 6}}}, {Windows: [][]int32{{1, 2, 3}}, From: []int{2}}, {Windows: [][]int32{{0, 1}}, Kept: []int{3, 9}},
	} {
		data, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"Windows":[[1,-1]]}`))
	f.Add([]byte(`{"Windows":[[1,2]],"From":[5]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		const vocab = 32
		p, err := parsePassage(data, vocab)
		if err != nil {
			if !errors.Is(err, errPiece) {
				t.Error(err)
			}
			return
		}
		all := vocab
		if p.Kept != nil {
			all = len(p.Kept)
		}
		for _, w := range (passage{windows: p.Windows, from: p.From}).scored() {
			if w.From < 1 || w.From >= len(w.Tokens) {
				t.Errorf("a window of %d tokens from %d", len(w.Tokens), w.From)
			}
			for _, token := range w.Tokens {
				if token < 0 || int(token) >= all {
					t.Errorf("token %d of %d", token, all)
				}
			}
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parsePassage(again, vocab); err != nil || !reflect.DeepEqual(same.Windows, p.Windows) {
			t.Errorf("%v, %v", same, err)
		}
	})
}

// TestPiecesAreChecked has a worker do pieces that cannot be ones of its search: each ends with an error that names what is wrong, and nothing is written.
func TestPiecesAreChecked(t *testing.T) {
	e := newEngine(t)
	device, err := e.open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(device.Close)
	model := gguftest.Write(t, gguftest.Tiny("llama"))
	s, err := e.openScorer(t.Context(), device, remote.Spec{}, remote.Opened{Model: model}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte(`{"Windows":[[1,999999]],"Name":"piqa","Items":[{"Gold":3}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		kind, settings string
		files          []string
		want           string
	}{
		{"shell", `"rm"`, nil, `its kind is "shell"`},
		{pieceLevels, `{}`, nil, "0 files, not 1"},
		{pieceLevels, `{"Slot":99}`, []string{junk}, "Slot 99 of 6"},
		{pieceLevels, `{"Slot":1,"Key":"00112233445566778899aabbccddeeff","Lambda":0.1,"Tokens":1,"Order":[0]}`, []string{junk}, "Order has 1 of 128 units"},
		{pieceSensitivity, `{"Slot":1}`, nil, "there are no levels"},
		{pieceStatistics, `{"Layer":1}`, nil, "there is no text"},
		{pieceStatistics, `{"Layer":"x"}`, nil, "piece of work: json"},
		{piecePerplexity, `{}`, []string{junk, junk}, "Windows[0][1] is 999999"},
		{piecePerplexity, `{"Reference":true}`, []string{junk, junk}, "2 files, not 3"},
		{pieceZeroShot, `{}`, []string{junk, model}, "choice 3 of 0 is correct"},
	} {
		dir := t.TempDir()
		_, err := s.Do(t.Context(), remote.Piece{Kind: test.kind, Settings: []byte(test.settings)}, test.files, dir)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: error %v", test.kind, test.settings, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s %s: %d files are left: %v", test.kind, test.settings, len(left), err)
		}
	}
}

// TestLargeText has a worker load a text that is larger than it reads at once.
func TestLargeText(t *testing.T) {
	e := newEngine(t)
	device, err := e.open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(device.Close)
	text := filepath.Join(t.TempDir(), "text")
	if err := errors.Join(os.WriteFile(text, nil, 0o600), os.Truncate(text, maxInput+1)); err != nil {
		t.Fatal(err)
	}
	_, err = e.openScorer(t.Context(), device, remote.Spec{}, remote.Opened{Model: gguftest.Write(t, gguftest.Tiny("llama")), Text: text}, nil)
	if !errors.Is(err, errPiece) || !strings.Contains(err.Error(), "a file of 1073741825 bytes") {
		t.Errorf("error %v", err)
	}
}

// TestWorkersComputeAlike starts workers with what results and memory depend on, as it is for the job.
func TestWorkersComputeAlike(t *testing.T) {
	e, err := New(Options{Compute: "go", Algebra: AlgebraGo, GPU: "off", Runner: "llama-server=/bin/llama-server", Spill: 1 << 20, Weights: 1 << 21, Worker: []string{"lathe", "worker"}, LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	args := workerProcess{engine: e, settings: settings{half: true, atOnce: 3}, spec: remote.Spec{Device: "go"}, of: 1}.args()
	for _, want := range [][2]string{
		{"--compute", "go"}, {"--compute-type", "bf16"}, {"--at-once", "3"}, {"--linear-algebra", "go"}, {"--gpu", "off"}, {"--engine", "llama-server=/bin/llama-server"},
		{"--spill", "1048576"}, {"--weights", "2097152"},
	} {
		if i := slices.Index(args, want[0]); i < 0 || args[i+1] != want[1] {
			t.Errorf("%s is not %s: %q", want[0], want[1], args)
		}
	}
	e.layers.Store(7)
	if args := (workerProcess{engine: e, of: 1}).args(); args[slices.Index(args, "--gpu")+1] != "7" || args[slices.Index(args, "--compute-type")+1] != "f32" {
		t.Errorf("%q", args)
	}
}

// TestEvaluationsAreChecked: what cannot be the result of a task is refused.
func TestEvaluationsAreChecked(t *testing.T) {
	task := quality.Task{Name: "piqa", Items: make([]quality.Item, 4)}
	half, much := 0.5, 1.5
	good := quality.EvalResult{Task: "piqa", Questions: 4, Acc: 0.5, AccErr: 0.1, AccNorm: &half, AccNormErr: &half}
	if err := checkEvaluation(good, task); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*quality.EvalResult){
		"of \"boolq\"":         func(r *quality.EvalResult) { r.Task = "boolq" },
		"5 questions":          func(r *quality.EvalResult) { r.Questions = 5 },
		"acc is -1":            func(r *quality.EvalResult) { r.Acc = -1 },
		"do not come together": func(r *quality.EvalResult) { r.AccNormErr = nil },
		"acc_norm is 1.5":      func(r *quality.EvalResult) { r.AccNorm = &much },
		"-1 texts":             func(r *quality.EvalResult) { r.Truncated = -1 },
	} {
		r := good
		change(&r)
		if err := checkEvaluation(r, task); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

// TestFitterTakesBack ends the making of levels while one is handed out: its moments do not stay in the shared folder.
func TestFitterTakesBack(t *testing.T) {
	e, shared := newEngine(t), t.TempDir()
	m := open(t, e, gguftest.Tiny("llama"))
	h, err := e.hand(t.Context(), explorer.Machines{Shared: shared}, "", &quiet{}, func(*scratch.Folder) (errand, error) { return m.errand(t.Context(), "go") })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	before, err := os.ReadDir(shared)
	if err != nil {
		t.Fatal(err)
	}
	f := newFitter(t.Context(), h, levels.Deliveries{})
	moments := filepath.Join(t.TempDir(), "moments")
	if err := os.WriteFile(moments, []byte("moments"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Fit(levels.Fit{Slot: 1}, moments, 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(shared); err != nil || len(left) != len(before) {
		t.Errorf("%v in place of %v: %v", left, before, err)
	}
}

// lockedMonitor records notes from several goroutines.
type lockedMonitor struct {
	quiet
	mu sync.Mutex
}

func (m *lockedMonitor) Note(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quiet.Note(text)
}

// TestLeftOnServer ends a job whose server elsewhere is away: what it has stored there is removed by the next one.
func TestLeftOnServer(t *testing.T) {
	server, err := remote.StartServer("0123456789abcdef", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	e, dir, mon := newEngine(t), t.TempDir(), &lockedMonitor{}
	e.options.NATSUser, e.options.NATSPassword = server.Own().User, server.Own().Password
	m := open(t, e, gguftest.Tiny("llama"))
	h, err := e.hand(t.Context(), explorer.Machines{NATS: server.Own().URL}, dir, mon, func(*scratch.Folder) (errand, error) { return m.errand(t.Context(), "go") })
	if err != nil {
		t.Fatal(err)
	}
	away := h.conn.StatusChanged(nats.RECONNECTING)
	server.Stop()
	<-away
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	mon.mu.Lock()
	defer mon.mu.Unlock()
	if _, err := os.Stat(filepath.Join(dir, leftFile)); err != nil || !strings.Contains(strings.Join(mon.notes, "\n"), "keeps what the search has stored there") {
		t.Errorf("%v; notes: %q", err, mon.notes)
	}
}
