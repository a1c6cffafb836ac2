package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

func TestMain(m *testing.M) {
	llamacpp.RunIfChild()
	os.Exit(m.Run())
}

// newEngine returns an engine on the Go device, with a short default text.
func newEngine(t *testing.T) *Engine {
	t.Helper()
	text := filepath.Join(t.TempDir(), "words.txt")
	words := strings.Repeat("The lathe turns a heavy block of wood until only the shape that was wanted remains. ", 40)
	if err := os.WriteFile(text, []byte(words), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{Compute: "go", Text: text, Scratch: t.TempDir(), LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// open writes a tiny random model and opens it.
func open(t *testing.T, b *Engine, m gguftest.Model) *model {
	t.Helper()
	opened, err := b.Open(t.Context(), gguftest.Write(t, m))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened.(*model)
}

// quiet is a monitor that pauses nothing and records reports.
type quiet struct {
	layers []explorer.LayerProgress
	notes  []string
	gates  int
}

func (q *quiet) Progress(_, _ float64, _, _ string)                  {}
func (q *quiet) Phase(explorer.Phase)                                {}
func (q *quiet) Workers(explorer.Crew)                               {}
func (q *quiet) Layer(l explorer.LayerProgress)                      { q.layers = append(q.layers, l) }
func (q *quiet) Note(text string)                                    { q.notes = append(q.notes, text) }
func (q *quiet) Gate(ctx context.Context) error                      { q.gates++; return ctx.Err() }
func (q *quiet) Persist(_ context.Context, write func() error) error { return write() }
