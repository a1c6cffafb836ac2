package tui

import (
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

// cutBy cuts through the form, some entries of which it fills by label, key by key, and returns the method that was recorded.
func (l *loop) cutBy(fill ...[2]string) explorer.Method {
	l.t.Helper()
	n := len(l.m.snap.Subnets)
	l.press("n")
	l.sees("one-shot cut")
	for _, e := range fill {
		l.entry(e[0])
		if e[1] == "right" {
			l.press(e[1])
			continue
		}
		l.write(e[1])
	}
	l.press("enter")
	l.until("the cut", func() bool { return len(l.m.snap.Subnets) == n+1 && l.m.snap.Reform.Result != "" })
	s, _ := l.m.snap.Subnet(l.m.snap.Reform.Result)
	return s.Method
}

// TestCutFormTakesTargets cuts to a size of the file through the form.
func TestCutFormTakesTargets(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 100, 40, nil)
	l.press("3", "n")
	l.sees("one-shot cut")
	l.press("ctrl+u")
	l.write("70XB")
	l.press("enter")
	l.sees("is not a ratio such as 0.8")
	l.press("ctrl+u")
	l.write("70MB")
	n := len(l.m.snap.Subnets)
	l.press("enter")
	l.until("the cut", func() bool { return len(l.m.snap.Subnets) == n+1 && l.m.snap.Reform.Result != "" })
	made, _ := l.m.snap.Subnet(l.m.snap.Reform.Result)
	if made.Method.Goal != "70MB" || l.m.snap.ExportBytes(made.ID, "") > 70e6 {
		t.Errorf("%q with %d bytes", made.Method.Goal, l.m.snap.ExportBytes(made.ID, ""))
	}
}

// TestCutFormTunes tunes what the form of a cut makes: one subnet of the library.
func TestCutFormTunes(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 100, 40, nil)
	l.press("3")
	me := l.cutBy()
	if me.Tune == nil || me.Tune.Of != explorer.DefaultTuneSteps {
		t.Errorf("untouched: method %+v, tuned %+v", me, me.Tune)
	}
	me = l.cutBy([2]string{"tune", "7steps"})
	if me.Tune == nil || me.Tune.Of != 7 || me.Preset == "" {
		t.Errorf("method %+v, tuned %+v", me, me.Tune)
	}
	if me = l.cutBy([2]string{"tune", "off"}); me.Tune != nil {
		t.Errorf("off: method %+v, tuned %+v", me, me.Tune)
	}
	if me = l.cutBy([2]string{"preset", "right"}); me.Tune != nil { // another preset
		t.Errorf("method %+v, tuned %+v", me, me.Tune)
	}
}

// TestFormsTakeARank tunes with a rank, after a cut and by itself.
func TestFormsTakeARank(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 120, 40, nil)
	l.press("3")
	me := l.cutBy([2]string{"tune", "7steps"}, [2]string{"tuning rank", "4"})
	if me.Tune == nil || me.Tune.Rank != 4 {
		t.Errorf("method %+v, tuned %+v", me, me.Tune)
	}
	l.sees("0.219, rank 4")
	n := len(l.m.snap.Subnets)
	l.press("t")
	l.sees("window tokens    512")
	l.entry("rank")
	l.write("999")
	l.press("enter")
	l.sees("512")
	l.write("8")
	l.press("enter")
	l.until("the tuning", func() bool { return len(l.m.snap.Subnets) == n+1 })
	if !slices.ContainsFunc(l.m.snap.Subnets, func(s explorer.Subnet) bool { return s.Method.Tune != nil && s.Method.Tune.Rank == 8 }) {
		t.Error("no subnet was tuned with a rank of 8")
	}
}

// TestCutFormShowsOwnSettings opens the form of cuts: settings left to the preset show their values, those of another preset once it is chosen.
func TestCutFormShowsOwnSettings(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 120, 40, nil)
	l.press("3", "n")
	l.sees("preset's own: exact")
	l.sees("preset's own: residual")
	l.sees("preset's own: 0.01, 0.03, 0.1 or 0.3")
	l.sees("preset's own: keep, as long as MLP channels are enough")
	l.entry("preset")
	l.press("right") // obs
	l.sees("preset's own: local")
	l.sees("preset's own: 0.01 ")
	l.press("right", "right") // flap
	l.sees("preset's own: none")
}

// TestFitForm finds the best subnet for a target through the form of the library, also for one in time.
func TestFitForm(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 120, 40, nil)
	for target, want := range map[string]string{"85MB": " MB", "speed=1.05x": "the best for speed=1.05x is "} {
		l.press("6", "f")
		l.sees("fit my machine")
		l.pick("or a target")
		l.write(target)
		l.press("enter")
		l.sees(want)
	}
}

// TestFitFormMakes makes a subnet for a memory through the form, which shows what is expected first: the vocabulary is chosen too unless its entry is
// cleared, and a memory that is too small is refused while the form is open.
func TestFitFormMakes(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, t.TempDir()), b, 120, 40, nil)
	l.press("6", "f")
	l.sees("Weights, KV cache and working memory are counted")
	l.press("right")
	l.sees("Expected: widths, types and the vocabulary are chosen for 125 MB")
	l.pick("memory, MB")
	l.press("ctrl+u")
	l.write("30")
	l.press("enter")
	l.sees("the smallest is")
	l.press("ctrl+u")
	l.write("150")
	l.press("enter")
	l.until("the subnet", func() bool { return len(l.m.snap.Subnets) == 1 })
	made := l.m.snap.Subnets[0]
	if v := made.Method.Vocab; v == nil || !v.Asked.Auto || made.Masks.VocabLen() >= 49152 || made.Types == nil || made.Name != "fit 150 MB@2048" {
		t.Errorf("made %q with %d entries of the vocabulary, %+v", made.Name, made.Masks.VocabLen(), made.Method)
	}
	l.press("f", "right")
	l.pick("memory, MB")
	l.press("ctrl+u")
	l.write("200")
	l.pick("vocabulary")
	l.press("ctrl+u")
	l.sees("Expected: widths and types are chosen for 74.2 MB")
	l.press("enter")
	l.until("the other subnet", func() bool { return len(l.m.snap.Subnets) == 2 })
	for _, n := range l.m.snap.Subnets {
		if whole := n.Name == "fit 200 MB@2048"; whole == n.Masks.TrimsVocab() {
			t.Errorf("%q has %d entries", n.Name, n.Masks.VocabLen())
		}
	}
}

// TestTypesFormTrims has the vocabulary chosen with widths and types by the form of types.
func TestTypesFormTrims(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, t.TempDir()), b, 120, 40, nil)
	l.press("6", "t")
	l.sees("types for a size")
	l.pick("units")
	l.press("right")
	l.pick("vocabulary")
	l.write("24000")
	l.press("enter")
	l.until("the subnet", func() bool { return len(l.m.snap.Subnets) == 1 })
	if made := l.m.snap.Subnets[0]; made.Masks.VocabLen() != 24000 || made.Types == nil {
		t.Errorf("%d entries of the vocabulary, types %v", made.Masks.VocabLen(), made.Types)
	}
}

// TestRefitForms checks that forms leave everything to the preset unless it is changed, and that what is changed arrives.
func TestRefitForms(t *testing.T) {
	b := explorertest.New()
	asked := make(chan explorer.ReformOptions, 4)
	b.Refitting = func(o explorer.ReformOptions) { asked <- o }
	l := newLoopOver(t, explorertest.Filled(t, b), b, 100, 40, nil)
	for len(asked) > 0 {
		<-asked
	}
	l.press("3")
	if me := l.cutBy(); me.Attention || me.Granularity != 32 {
		t.Errorf("untouched, the form cuts by %+v", me)
	}
	if o := <-asked; o != (explorer.ReformOptions{}) {
		t.Errorf("untouched, the form asks for %+v", o)
	}
	me := l.cutBy([2]string{"KV groups", "right"}, [2]string{"granularity", "256"}, [2]string{"re-fit", "a"}, [2]string{"reproduce", "d"}, [2]string{"lambda", "0"},
		[2]string{"pull", "y"}, [2]string{"bias", "y"}, [2]string{"rho", "2"}, [2]string{"steps", "7"})
	o := <-asked
	if !me.Attention || me.Granularity != 256 || o.Method != "admm" || o.Target != "dense" || o.Lambda == nil || *o.Lambda != 0 || !*o.Pull || !*o.Bias || o.Rho != 2 || o.Steps != 7 {
		t.Errorf("the form asks for %+v, %+v", me, o)
	}
	screen := l.screen()
	for _, want := range []string{"step of ADMM", "no ridge", "layer 29", "rho 2, 7 steps"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q on the screen:\n%s", want, screen)
		}
	}
	before := l.m.snap.Reform.Layers[28].MLP.ErrBefore
	l.press("up")
	l.sees("layer 28")
	l.sees(text.Small(before))
	l.press("n", "right") // no: the target is a text
	l.press("tab")
	for range 11 { // a preset that drops layers has neither
		l.press("right")
	}
	l.sees("cosine")
	if s := l.screen(); strings.Contains(s, "granularity") || strings.Contains(s, "KV groups") {
		t.Errorf("settings without effect are shown:\n%s", s)
	}
}
