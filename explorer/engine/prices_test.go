package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// Times are measured once on a machine and kept; those of another machine are measured again.
func TestPricesOfTime(t *testing.T) {
	e, err := New(Options{LogDir: t.TempDir(), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	measured := 0
	e.time = func(context.Context, *model, string, explorer.Monitor) (search.Times, error) {
		measured++
		return search.Times{Dense: 0.01 * float64(measured), MLP: []search.TimePoint{{Kept: 0.5, Seconds: 0.007}}}, nil
	}
	path, dir := gguftest.Write(t, gguftest.Tiny("llama")), t.TempDir()
	target, err := search.ParseTarget("speed=1.1x", "")
	if err != nil {
		t.Fatal(err)
	}
	seconds := func(mon explorer.Monitor) float64 {
		t.Helper()
		m, err := e.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		p, err := m.Prices(t.Context(), target, dir, mon)
		if err != nil {
			t.Fatal(err)
		}
		dense, ok := p.Seconds(subnet.Dense(m.Info().Geometry), "")
		if _, other := p.Seconds(subnet.Dense(m.Info().Geometry), "Q8_0"); !ok || other || dense <= 0 {
			t.Errorf("%v seconds (%v), as Q8_0 %v", dense, ok, other)
		}
		return dense
	}
	first := seconds(&quiet{})
	if again := seconds(&quiet{}); again != first || measured != 1 {
		t.Errorf("measured %d times on the same machine: %v, %v", measured, first, again)
	}
	file := filepath.Join(dir, timesFile)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := readTimes(dir)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%s: %v", data, err)
	}
	elsewhere := strings.ReplaceAll(string(data), kept[0].Machine, "another")
	if err := os.WriteFile(file, []byte(elsewhere), 0o600); err != nil {
		t.Fatal(err)
	}
	mon := &quiet{}
	seconds(mon)
	if !slices.ContainsFunc(mon.notes, func(n string) bool { return strings.Contains(n, "another machine") }) {
		t.Errorf("times of another machine: notes %q", mon.notes)
	}
	if kept, err = readTimes(dir); err != nil || len(kept) != 2 || measured != 2 {
		t.Errorf("%d times are kept, measured %d times: %v", len(kept), measured, err)
	}
	if err := os.WriteFile(file, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	mon = &quiet{}
	seconds(mon)
	if len(mon.notes) == 0 || !strings.Contains(mon.notes[0], timesFile) {
		t.Errorf("a damaged file: notes %q", mon.notes)
	}
}

// The engine times a tiny model and every cut of it.
func TestMeasureTimes(t *testing.T) {
	if os.Getenv("LATHE_SLOW") == "" {
		t.Skip("LATHE_SLOW=1 runs it: on a busy machine it takes minutes")
	}
	e, err := New(Options{LogDir: t.TempDir(), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	m, err := e.Open(t.Context(), gguftest.Write(t, gguftest.Tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	times, err := measureTimes(t.Context(), m.(*model), "Q8_0", &quiet{})
	if err != nil || !times.Valid() || len(times.MLP) != 3 || len(times.Attention) != 2 {
		t.Errorf("%+v, %v", times, err)
	}
}
