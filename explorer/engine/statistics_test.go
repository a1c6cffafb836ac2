package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// passing counts the layers that a job reports, and stops it after some of them.
type passing struct {
	quiet
	layers int
	stop   func()
	at     int // the layer to stop after, 0 for none
}

func (p *passing) Progress(done, _ float64, _, step string) {
	if done == 0 || step != "statistics" {
		return
	}
	if p.layers++; p.layers == p.at {
		p.stop()
	}
}

// TestStatisticsSurviveInterruptions stops a gathering after two of three layers. Another one takes these from the workspace, also in another
// process, and leaves no file of a layer behind. Statistics of a second text do not replace those of the first.
func TestStatisticsSurviveInterruptions(t *testing.T) {
	path, dir := gguftest.Write(t, gguftest.Tiny("llama")), t.TempDir()
	other := filepath.Join(t.TempDir(), "other.txt")
	if err := os.WriteFile(other, []byte(strings.Repeat("Chips fall from the tool that follows a curve along the turning wood. ", 60)), 0o644); err != nil {
		t.Fatal(err)
	}
	gather := func(c explorer.Calibration, stopAfter int) (*model, *passing, error) {
		t.Helper()
		b := newEngine(t)
		if c.Text == "" {
			c.Text = b.options.Text
		}
		c.Windows, c.Seq = 4, 64
		opened, err := b.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		mon := &passing{stop: stop, at: stopAfter}
		_, err = opened.Gather(ctx, explorer.GatherStatistics{Calibration: c}, dir, mon)
		return opened.(*model), mon, err
	}
	files := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, "*", "layer-*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if _, _, err := gather(explorer.Calibration{}, 2); err == nil || len(files()) != 2 {
		t.Fatalf("stopped, it keeps %d layers, %v", len(files()), err)
	}
	first := files()[0]
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), `"rise":`)
	if !ok {
		t.Fatalf("%s", data)
	}
	rise, _, _ := strings.Cut(rest, ",")
	if err := os.WriteFile(first, []byte(strings.Replace(string(data), `"rise":`+rise, `"rise":1234.5`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files()[1], data[:len(data)/2], 0o600); err != nil { // damaged: measured again
		t.Fatal(err)
	}
	m, _, err := gather(explorer.Calibration{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s := m.statistics.Load(); s.Layers[0].Channels.Rise != 1234.5 || s.Layers[1].Channels.Rise == 0 || len(s.Checks) == 0 {
		t.Errorf("continued, the losses are %v and %v, %d checks", s.Layers[0].Channels.Rise, s.Layers[1].Channels.Rise, len(s.Checks))
	}
	if left := files(); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	if _, mon, err := gather(explorer.Calibration{Text: other}, 0); err != nil || mon.layers != 3 {
		t.Errorf("another text: %d layers, %v", mon.layers, err)
	}
	for _, text := range []string{"", other, ""} {
		m, mon, err := gather(explorer.Calibration{Text: text}, 0)
		if err != nil || mon.layers != 0 {
			t.Errorf("%q again: %d layers, %v", text, mon.layers, err)
		}
		if got := m.statistics.Load().Layers[0].Channels.Rise; (got == 1234.5) != (text == "") {
			t.Errorf("%q has the statistics of the other text", text)
		}
	}
}
