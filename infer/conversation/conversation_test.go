package conversation

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// talker is a model with or without a chat template whose answers are scripted.
type talker struct {
	infer.Model
	template string
	answer   func(n int) []int32 // the nth answer
	asked    int
	seeds    []uint64
}

func (m *talker) Info() infer.Info {
	i := m.Model.Info()
	i.ChatTemplate = m.template
	return i
}

func (m *talker) Generate(ctx context.Context, _ []int32, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	m.seeds = append(m.seeds, s.Seed)
	for _, id := range m.answer(m.asked) {
		if err := errors.Join(emit(infer.Token{ID: id}), ctx.Err()); err != nil {
			return infer.GenStats{}, err
		}
	}
	m.asked++
	return infer.GenStats{}, nil
}

func newTalker(t *testing.T, template string, answer func(n int) []int32) *talker {
	t.Helper()
	m, err := fake.New(fake.Options{}).Load(t.Context(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &talker{Model: m, template: template, answer: answer}
}

// distinct returns an answer of n tokens that does not repeat itself.
func distinct(n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32('a' + (i*i+i/26)%26)
	}
	return tokens
}

func TestGenerate(t *testing.T) {
	for template, list := range map[string][]string{"a template": prompts[:], "": openings[:]} {
		m := newTalker(t, template, func(n int) []int32 {
			switch n % 3 {
			case 0:
				return slices.Repeat([]int32{'a', 'b'}, 50) // repeats itself
			case 1:
				return distinct(minAnswer - 1) // too short
			}
			return distinct(50)
		})
		last, gates := 0, 0
		o := Options{Tokens: 500, Seed: 1, Gate: func(context.Context) error { gates++; return nil }, Progress: func(done, total int) {
			if done < 0 || done > total || total != 500 {
				t.Errorf("%d of %d tokens", done, total)
			}
			last = done
		}}
		got, err := Generate(t.Context(), m, o)
		if err != nil || len(got) != 10 || last != 500 || gates != 30 {
			t.Fatalf("%q: %d conversations, %d tokens, %d gates, error %v", template, len(got), last, gates, err)
		}
		for _, text := range got {
			if !strings.Contains(text, textOf(distinct(50))) || !slices.ContainsFunc(list, func(p string) bool { return strings.Contains(text, p) }) {
				t.Errorf("%q: %q", template, text)
			}
			if marked := strings.Contains(text, "<|im_start|>"); marked != (template != "") {
				t.Errorf("%q: the form of a chat: %v", template, marked)
			}
		}
		again := newTalker(t, template, m.answer)
		if same, err := Generate(t.Context(), again, o); err != nil || !slices.Equal(same, got) || !slices.Equal(again.seeds, m.seeds) {
			t.Errorf("%q: the same seed gives other conversations, error %v", template, err)
		}
	}
}

func textOf(tokens []int32) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte(byte(t))
	}
	return b.String()
}

func TestGenerateIsBounded(t *testing.T) {
	ctx := t.Context()
	m := newTalker(t, "x", func(int) []int32 { return slices.Repeat([]int32{'a'}, 40) })
	if _, err := Generate(ctx, m, Options{Tokens: 500}); !errors.Is(err, ErrUnusable) || m.asked != maxRejected {
		t.Errorf("repetitions only: %d answers, %v", m.asked, err)
	}
	now := time.Unix(0, 0)
	m = newTalker(t, "x", func(int) []int32 { now = now.Add(time.Minute); return distinct(50) })
	got, err := Generate(ctx, m, Options{Tokens: 1 << 20, Limit: 3 * time.Minute, Now: func() time.Time { return now }})
	if err != nil || len(got) != 3 {
		t.Errorf("%d conversations in three minutes, error %v", len(got), err)
	}
	m = newTalker(t, "x", func(int) []int32 { return distinct(50) })
	if got, err := Generate(ctx, m, Options{Tokens: 1 << 20}); err != nil || len(got) != maxRounds*len(prompts) {
		t.Errorf("%d conversations, error %v", len(got), err)
	}
	stopped, cancel := context.WithCancel(ctx)
	m = newTalker(t, "x", func(int) []int32 { cancel(); return distinct(50) })
	if _, err := Generate(stopped, m, Options{Tokens: 500}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	paused := errors.New("paused")
	if _, err := Generate(ctx, m, Options{Tokens: 500, Gate: func(context.Context) error { return paused }}); !errors.Is(err, paused) {
		t.Errorf("at the gate: %v", err)
	}
}

// TestListsAreVaried fails where a prompt occurs twice.
func TestListsAreVaried(t *testing.T) {
	for _, list := range [][]string{prompts[:], openings[:]} {
		if sorted := slices.Compact(slices.Sorted(slices.Values(list))); len(sorted) != len(list) || len(list) < 40 {
			t.Errorf("%d of %d differ", len(sorted), len(list))
		}
	}
}

func TestStore(t *testing.T) {
	dir := t.TempDir() + "/new/folder"
	if _, err := Load(dir, "ab"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	want := []string{"one <|im_end|>\n", "two"}
	if got, err := Save(dir, "ab", want); err != nil || !slices.Equal(got, want) {
		t.Fatal(got, err)
	}
	if got, err := Load(dir, "ab"); err != nil || !slices.Equal(got, want) {
		t.Fatal(got, err)
	}
	if got, err := Save(dir, "ab", []string{"another process was faster"}); err != nil || !slices.Equal(got, want) {
		t.Error("what is kept was replaced", got, err)
	}
	good, err := os.ReadFile(Path(dir, "ab"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		err     error
		field   string
	}{
		"cut short":     {string(good[:20]), ErrDamaged, ""},
		"other model":   {strings.Replace(string(good), `"ab"`, `"cd"`, 1), ErrDamaged, "model"},
		"other version": {strings.Replace(string(good), `"version": 1`, `"version": 99`, 1), fs.ErrNotExist, "version"},
		"empty":         {`{"version": 1, "model": "ab", "documents": [" "]}`, ErrDamaged, "documents"},
	} {
		if err := os.WriteFile(Path(dir, "ab"), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, "ab"); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.field) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Save(dir, "ab", want); err != nil {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version": 1, "model": "ab", "documents": ["a"]}`))
	f.Add([]byte(`{"version": 1, "model": "ab", "documents": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(Path(dir, "ab"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if documents, err := Load(dir, "ab"); err == nil && len(documents) == 0 {
			t.Error("no documents and no error")
		}
	})
}
