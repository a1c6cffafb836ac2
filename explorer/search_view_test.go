package explorer_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// TestSearchStaysVisible opens a workspace again after a search: its front and population are there, and can be adopted.
func TestSearchStaysVisible(t *testing.T) {
	folder := t.TempDir()
	e := explorertest.Open(t, explorertest.New(), folder)
	explorertest.Do(t, e, explorer.StartSearch{Target: search.Ratio(0.7), Seed: 3, Budget: explorer.Budget{Evaluations: 40}})
	was, refit := e.Snapshot().Search, e.Snapshot().Reform
	if refit.Result != was.Result || refit.Result == "" || len(refit.Layers) != 30 || refit.Layers[29].MLP == nil || refit.After <= 0 {
		t.Errorf("the re-fit of %s is shown as that of %s, with %d layers", was.Result, refit.Result, len(refit.Layers))
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	e = explorertest.Open(t, explorertest.New(), folder)
	if again := e.Snapshot().Reform; again.Result != refit.Result || len(again.Layers) != 30 || again.Layers[0].MLP.ErrAfter != refit.Layers[0].MLP.ErrAfter {
		t.Errorf("opened again, the re-fit is shown with %d layers", len(again.Layers))
	}
	is := e.Snapshot().Search
	if is.Job != "" || is.Target != search.Ratio(0.7) || is.Seed != 3 || is.Evaluated != was.Evaluated || is.Generation != was.Generation || is.Best == nil || is.Best.ID != was.Best.ID {
		t.Errorf("it is shown as %d candidates in %d generations to %v", is.Evaluated, is.Generation, is.Target)
	}
	if len(is.Front) == 0 || len(is.Front) != len(was.Front) || len(is.Population) != len(was.Population) || !reflect.DeepEqual(is.Cloud, was.Cloud) || len(is.History) != len(was.History) {
		t.Fatalf("front %d of %d, population %d of %d", len(is.Front), len(was.Front), len(is.Population), len(was.Population))
	}
	for i, c := range is.Front {
		b := was.Front[i]
		if !c.Masks.Equal(b.Masks) || c.ID != b.ID || c.Score.Fitness != b.Score.Fitness || c.Bytes != b.Bytes || c.Ratio != b.Ratio || c.Tiers != b.Tiers {
			t.Errorf("candidate %d of the front is %+v", i, c)
		}
	}
	got := explorertest.Do(t, e, explorer.Adopt{Candidate: is.Front[0].ID, Name: "found"})
	n, ok := e.Snapshot().Subnet(got.Subnet)
	if !ok && len(e.Snapshot().Subnets) > 0 {
		n = e.Snapshot().Subnets[0]
	}
	if n.Name != "found" || !n.Masks.Equal(is.Front[0].Masks) || n.Method.Target != 0.7 {
		t.Errorf("adopted as %+v", n.Name)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	// A view that cannot be read is kept, with a message.
	path := filepath.Join(folder, "search", "view.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"cut off":       string(good[:len(good)/2]),
		"other version": strings.Replace(string(good), `"Version":1`, `"Version":99`, 1),
		"other model":   strings.Replace(string(good), `"Model":"`, `"Model":"x`, 1),
		"bad masks":     strings.ReplaceAll(string(good), `"Bits":"`, `"Bits":"AAAA`),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		e := explorertest.Open(t, explorertest.New(), folder)
		s := e.Snapshot()
		if s.Search.Best != nil || len(s.Messages) == 0 || !strings.Contains(s.Messages[0].Text, "the last search is not shown") {
			t.Errorf("%s: messages %+v", name, s.Messages)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResumedSearchHasItsOwnSettings resumes a search that ended, with few settings.
func TestResumedSearchHasItsOwnSettings(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), t.TempDir())
	asked := explorer.StartSearch{
		Target: search.Ratio(0.9), Seed: 3, Strategy: "paper-laptop", Fitness: "kl", Set: "epochs=7", Budget: explorer.Budget{Evaluations: 40}, Calibration: explorer.Calibration{Windows: 6},
	}
	explorertest.Do(t, e, asked)
	more := explorer.Budget{Evaluations: 60}
	explorertest.Do(t, e, explorer.StartSearch{Resume: true, Budget: more})
	want := asked
	want.Budget, want.Calibration.Draw, want.Calibration.DefaultTexts = more, explorer.DrawWhole, 2
	if got := e.Snapshot().Ended; got == nil || !reflect.DeepEqual(got.Search, want) || e.Snapshot().Search.Target != search.Ratio(0.9) {
		t.Errorf("it was resumed as %+v", got)
	}
	for name, c := range map[string]explorer.StartSearch{
		"seed":     {Resume: true, Seed: 4},
		"strategy": {Resume: true, Strategy: "ladder"},
		"fitness":  {Resume: true, Fitness: "perplexity"},
		"windows":  {Resume: true, Calibration: explorer.Calibration{Windows: 5}},
		"text":     {Resume: true, Calibration: explorer.Calibration{Text: "other.txt"}},
		"draw":     {Resume: true, Calibration: explorer.Calibration{Draw: explorer.DrawStart}},
	} {
		if _, err := e.Do(t.Context(), explorertest.Owner, c); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := explorer.StartSearch{Target: search.Ratio(0.8), Strategy: "paper", Set: "alpha=7"}
	if _, err := e.Do(t.Context(), explorertest.Owner, bad); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), "alpha") {
		t.Errorf("alpha=7: %v", err)
	}
}
