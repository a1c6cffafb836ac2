package tui

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// TestWorseRefitIsReported re-fits a subnet so that it gets worse: its weights stay, and the screen shows that in red.
func TestWorseRefitIsReported(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	b.Worse = true
	edited := explorertest.Do(t, ex, explorer.AddSubnet{Name: "by hand", Masks: draftText(t, ex), Origin: explorer.Edited}).Subnet
	made := explorertest.Do(t, ex, explorer.Refit{Subnet: edited, Name: "worse"}).Subnet
	n, _ := ex.Snapshot().Subnet(made)
	if n.Refit != "" || n.Method.Kept != explorer.KeptOriginal || n.HeldOut.Rejected <= n.HeldOut.Perplexity || n.HeldOut.Perplexity != n.HeldOut.Unfitted {
		t.Errorf("kept %q, weights %q, held out %+v", n.Method.Kept, n.Refit, n.HeldOut)
	}
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "reform" })
	l.sees("Worse: the original weights are kept")
	bad := l.m.theme.Bad.Render("x")
	red, _, _ := strings.Cut(bad, "x")
	found := false
	for _, row := range strings.Split(l.m.View().Content, "\n") {
		if strings.Contains(ansi.Strip(row), "Worse: the original") {
			found = strings.Contains(row, red+"Worse: the original")
		}
	}
	if !found {
		t.Error("the report is not in the colour of errors")
	}
	l.press("6")
	l.sees("original: a re-fit was worse")
}

func draftText(t *testing.T, ex *explorer.Exploration) string {
	t.Helper()
	masks, err := ex.Snapshot().Draft.Masks.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(masks)
}

// TestBetterWeightsStay re-fits a re-fitted subnet so that it gets worse: it keeps the weights of the first re-fit.
func TestBetterWeightsStay(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	cut := ex.Snapshot().Subnets[len(ex.Snapshot().Subnets)-1]
	if cut.Refit == "" {
		t.Fatal("the first cut is not re-fitted")
	}
	b.Worse = true
	made := explorertest.Do(t, ex, explorer.Refit{Subnet: cut.ID}).Subnet
	n, _ := ex.Snapshot().Subnet(made)
	if n.Refit == "" || n.Method.Kept != explorer.KeptPrevious || n.HeldOut.Perplexity != cut.HeldOut.Perplexity {
		t.Errorf("kept %q, weights %q, held out %+v", n.Method.Kept, n.Refit, n.HeldOut)
	}
}

// TestChatAfterSearchIsRefitted adopts the masks of a search without re-fitted weights first, and chats with them on Search:
// the chat is with the re-fitted subnet.
func TestChatAfterSearchIsRefitted(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	s := ex.Snapshot()
	best := *s.Search.Best
	plain := explorertest.Do(t, ex, explorer.Adopt{Candidate: best.ID, Name: "plain"}).Subnet
	if n, _ := ex.Snapshot().Subnet(plain); n.Refit != "" {
		t.Fatal("the adopted candidate is re-fitted")
	}
	l := newLoopOver(t, ex, b, 120, 40, nil)
	l.press("esc")
	l.sees("re-fitted ")
	l.press("c")
	l.until("the chat", func() bool { return l.on("chat") && len(l.m.snap.Chats) > len(s.Chats) })
	got, _ := ex.Snapshot().Subnet(l.m.snap.Chats[0].Columns[1].Subnet)
	if got.Refit == "" || !got.Masks.Equal(best.Masks) {
		t.Errorf("the chat is with %s (weights %q)", got.Name, got.Refit)
	}
	l.press("esc", "6", "home")
	l.sees("not re-fitted; evening search is")
	l.press("e")
	l.sees("not re-fitted; evening")
}

// TestExportOffersEveryType compares the types that the form offers with the list of the command line.
func TestExportOffersEveryType(t *testing.T) {
	l := newLoop(t, 120, 40, func(o *Options) { o.Screen = "library" })
	l.press("esc", "e", "down")
	for _, name := range gguf.WritableNames() {
		l.press("right")
		l.until("the choice of "+name, func() bool {
			return strings.Contains(l.screen(), "["+name+"]") || strings.Contains(l.screen(), "← "+name+" →")
		})
	}
	l.press("up", "right", "down")
	for _, name := range convert.FolderTypes() {
		l.press("right")
		l.until("the choice of "+name, func() bool {
			return strings.Contains(l.screen(), "["+name+"]") || strings.Contains(l.screen(), "← "+name+" →")
		})
	}
	dir := t.TempDir() + "/hf"
	l.press("down", "ctrl+u")
	l.write(dir)
	l.press("enter")
	l.until("the folder", func() bool {
		j := l.m.snap.Jobs
		return len(j) > 0 && j[0].Kind == explorer.JobExport && j[0].Output == dir
	})
}

// TestWholeBlocksAreBounded drops a layer of the dense model by key: the estimate has a bound.
func TestWholeBlocksAreBounded(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	explorertest.Do(t, ex, explorer.Checkout{Subnet: explorer.DenseID})
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "masks" })
	l.press("esc", "down", "X")
	l.sees("9 of 10 within ")
	l.press("up", "left")
	l.until("an estimate without a bound", func() bool { return !strings.Contains(l.screen(), "9 of 10 within") })
}
