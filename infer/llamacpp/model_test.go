//go:build cgo && !nocgo

package llamacpp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// tiny loads a random model whose metadata edit changes; edit may be nil.
func tiny(t testing.TB, e *Engine, edit func(*gguf.KV)) *Model {
	t.Helper()
	recipe := gguftest.Tiny("llama")
	recipe.Edit = edit
	return loadModel(t, e, tinyOptions(gguftest.Write(t, recipe)))
}

func tinyOptions(path string) infer.LoadOptions {
	o := infer.Defaults(path)
	o.Context, o.Batch, o.Threads = 512, 64, 1
	return o
}

func hello() []infer.Message { return []infer.Message{{Role: infer.User, Content: "Hello"}} }

func TestFamilies(t *testing.T) {
	e := newEngine(t)
	for _, family := range gguftest.Runnable() {
		t.Run(family.Name, func(t *testing.T) {
			m := loadModel(t, e, tinyOptions(gguftest.Write(t, family.Model)))
			defer m.Close()
			info := m.Info()
			if info.Arch != family.Model.Arch || info.Vocab != family.Model.Vocab || info.Layers != len(family.Model.Layers) || info.Context != 512 {
				t.Errorf("info %+v", info)
			}
			ids, err := m.Tokenize(t.Context(), "Grüße, 世界! \xff", true)
			if err != nil {
				t.Fatal(err)
			}
			text, err := m.Detokenize(t.Context(), ids)
			if err != nil || !strings.Contains(text, "Grüße, 世界!") {
				t.Errorf("there and back: %q, %v", text, err)
			}
			stats, err := m.Chat(t.Context(), hello(), infer.Sampling{MaxTokens: 8}, nil)
			if err != nil || stats.Tokens == 0 || stats.Warning != "" {
				t.Errorf("chat %+v, %v", stats, err)
			}
			if _, err := m.Score(t.Context(), [][]int32{ids, {1}, {}}, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScoreAgrees computes the same log-probabilities in every way of the interface: scoring in batches, one token more at a
// time, from a position on with a reused prefix, and generation. An f16 cache and batches of other sizes round differently,
// by up to 0.02 nats.
func TestScoreAgrees(t *testing.T) {
	const tolerance = 0.02
	m := tiny(t, newEngine(t), nil)
	ctx := t.Context()
	vocab := int32(m.Info().Vocab)
	window := make([]int32, 200) // several batches of 64
	for i := range window {
		window[i] = int32(i*i*7+3) % vocab
	}
	nll, err := m.Score(ctx, [][]int32{window, window[:2]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(nll[0]) != len(window)-1 || len(nll[1]) != 1 {
		t.Fatalf("%d and %d values", len(nll[0]), len(nll[1]))
	}
	near := func(what string, got, want float32) {
		t.Helper()
		if math.Abs(float64(got-want)) > tolerance {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("a short window", nll[1][0], nll[0][0])

	const from = 70
	at := make([][]int32, len(window)-from)
	for i := range at {
		at[i] = []int32{window[from+i], 5}[:1+i%2]
	}
	got, err := m.Distributions(ctx, [][]int32{window}, infer.DistributionOptions{From: []int{from}, Top: 3, At: [][][]int32{at}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got[0]) != len(at) {
		t.Fatalf("%d positions, want %d", len(got[0]), len(at))
	}
	for i, p := range got[0] {
		near(fmt.Sprintf("position %d", from+i), p.NLL, nll[0][from+i-1])
		if len(p.At) != len(at[i]) || p.At[0] != -p.NLL {
			t.Errorf("position %d: asked for %v, got %v beside NLL %v", from+i, at[i], p.At, p.NLL)
		}
		if len(p.Top) != 3 || p.TopProbs[0] < p.TopProbs[1] || p.TopProbs[1] < p.TopProbs[2] || p.Greedy != (p.Top[0] == window[from+i]) {
			t.Errorf("position %d: top %v %v", from+i, p.Top, p.TopProbs)
		}
	}

	// One more token at a time, by the first token generated after each prefix and its alternatives.
	all := infer.Sampling{MaxTokens: 1, TopLogProbs: infer.MaxTop}
	for _, n := range []int{1, 63, 64, 65, 128, 199} {
		var first infer.Token
		stats, err := m.Generate(ctx, window[:n], all, func(t infer.Token) error { first = t; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if n > 1 && stats.ReusedTokens == 0 {
			t.Errorf("prefix of %d: nothing reused", n)
		}
		i := slices.IndexFunc(first.Top, func(p infer.TokenProb) bool { return p.ID == window[n] })
		if i < 0 {
			t.Fatalf("token %d is not among the %d most likely", window[n], len(first.Top))
		}
		near(fmt.Sprintf("generation after %d", n), float32(-first.Top[i].LogProb), nll[0][n-1])
		if first.ID != first.Top[0].ID || math.Abs(first.LogProb-first.Top[0].LogProb) > 1e-6 {
			t.Errorf("greedy token %d %v, best %+v", first.ID, first.LogProb, first.Top[0])
		}
	}
}

func TestReuse(t *testing.T) {
	m := tiny(t, newEngine(t), nil)
	ctx := t.Context()
	generate := func(prompt []int32) (out []int32, stats infer.GenStats) {
		stats, err := m.Generate(ctx, prompt, infer.Sampling{MaxTokens: 12}, func(t infer.Token) error { out = append(out, t.ID); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return out, stats
	}
	prompt, err := m.Tokenize(ctx, "A prompt of some length, to be read once only.", true)
	if err != nil {
		t.Fatal(err)
	}
	first, stats := generate(prompt)
	if stats.ReusedTokens != 0 || stats.PromptTokens != len(prompt) {
		t.Errorf("first turn %+v", stats)
	}
	again, stats := generate(prompt)
	if stats.ReusedTokens != len(prompt)-1 || !slices.Equal(first, again) {
		t.Errorf("same prompt: %+v, %v, before %v", stats, again, first)
	}
	next := append(slices.Clone(prompt), first...)
	_, stats = generate(append(next, prompt...))
	if want := len(prompt) + len(first) - 1; stats.ReusedTokens < want {
		t.Errorf("next turn reused %d, want %d at least", stats.ReusedTokens, want)
	}
	if stats.ContextUsed < stats.PromptTokens || stats.Context != 512 {
		t.Errorf("next turn %+v", stats)
	}
}

func TestStops(t *testing.T) {
	m := tiny(t, newEngine(t), nil)
	ctx := t.Context()
	long := make([]int32, 505)
	for i := range long {
		long[i] = int32(i % 250)
	}
	stats, err := m.Generate(ctx, long, infer.Sampling{Temperature: 1, Seed: 1}, nil)
	if err != nil || (stats.Stop != infer.StopContext && stats.Stop != infer.StopEnd) || stats.ContextUsed > 512 {
		t.Errorf("full context: %+v, %v", stats, err)
	}
	var text strings.Builder
	full, err := m.Generate(ctx, long[:4], infer.Sampling{Temperature: 1, Seed: 1, MaxTokens: 60}, func(tok infer.Token) error {
		if !utf8.ValidString(tok.Text) {
			t.Errorf("token text %q is not valid", tok.Text)
		}
		text.WriteString(tok.Text)
		return nil
	})
	if err != nil || full.Stop != infer.StopLength || full.Tokens != 60 {
		t.Fatalf("%+v, %v", full, err)
	}
	stop := regexp.MustCompile(`[!-~]{3}`).FindString(text.String())
	if stop == "" {
		t.Fatalf("no three letters in a row in %q", text.String())
	}
	want, _, _ := strings.Cut(text.String(), stop)
	text.Reset()
	stats, err = m.Generate(ctx, long[:4], infer.Sampling{Temperature: 1, Seed: 1, MaxTokens: 60, Stop: []string{stop}}, func(tok infer.Token) error {
		text.WriteString(tok.Text)
		return nil
	})
	if err != nil || stats.Stop != infer.StopString || text.String() != want {
		t.Errorf("stopped at %q: %q, want %q; %+v, %v", stop, text.String(), want, stats, err)
	}
	for name, call := range map[string]func() error{
		"prompt longer than the context": func() error { _, err := m.Generate(ctx, make([]int32, 512), infer.Sampling{}, nil); return err },
		"window longer than the context": func() error { _, err := m.Score(ctx, [][]int32{make([]int32, 513)}, nil); return err },
		"bench longer than the context":  func() error { _, err := m.Bench(ctx, infer.BenchOptions{Prompt: []int{600}}); return err },
	} {
		if err := call(); !errors.Is(err, infer.ErrContextFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, call := range map[string]func() error{
		"generate": func() error { _, err := m.Generate(ctx, []int32{-1}, infer.Sampling{}, nil); return err },
		"score":    func() error { _, err := m.Score(ctx, [][]int32{{1, 1 << 30}}, nil); return err },
		"pieces":   func() error { _, err := m.Pieces(ctx, []int32{1 << 30}); return err },
		"asked for": func() error {
			_, err := m.Distributions(ctx, [][]int32{{1, 2}}, infer.DistributionOptions{At: [][][]int32{{{-7}}}})
			return err
		},
	} {
		if err := call(); !errors.Is(err, infer.ErrBadToken) {
			t.Errorf("bad token in %s: %v", name, err)
		}
	}
	if _, err := m.Generate(ctx, nil, infer.Sampling{}, nil); err == nil {
		t.Error("an empty prompt was continued")
	}
}

func TestCrashAndRestart(t *testing.T) {
	m := tiny(t, newEngine(t), nil)
	ctx := t.Context()
	if err := m.SetThreads(2); err != nil {
		t.Fatal(err)
	}
	prompt := []int32{1, 2, 3}
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT, syscall.SIGSEGV} {
		victim := m.process
		_, err := m.Generate(ctx, prompt, infer.Sampling{Temperature: 1}, func(infer.Token) error {
			return victim.cmd.Process.Signal(signal)
		})
		if !errors.Is(err, infer.ErrEngineCrashed) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("%v in mid-generation: %v", signal, err)
		}
		if _, err := os.Stat(victim.logPath); err != nil {
			t.Errorf("the log of a crash is gone: %v", err)
		}
		if stats, err := m.Generate(ctx, prompt, infer.Sampling{MaxTokens: 3}, nil); err != nil || stats.Tokens == 0 {
			t.Fatalf("after %v: %+v, %v", signal, stats, err)
		}
	}
	// The death of an idle child is not an error.
	m.process.cmd.Process.Kill()
	<-m.process.ended
	if _, err := m.Score(ctx, [][]int32{prompt}, nil); err != nil {
		t.Errorf("after the death of an idle child: %v", err)
	}
	if m.Info().Threads != 2 {
		t.Errorf("threads after restarts: %d", m.Info().Threads)
	}
	// The error of a crash names the log, which outlives the model.
	victim := m.process
	_, err := m.Generate(ctx, prompt, infer.Sampling{Temperature: 1}, func(infer.Token) error { return victim.cmd.Process.Kill() })
	if closed := m.Close(); closed != nil || !errors.Is(err, infer.ErrEngineCrashed) || !strings.Contains(err.Error(), victim.logPath) {
		t.Errorf("crashed with %v, closed with %v", err, closed)
	}
	if _, err := os.Stat(victim.logPath); err != nil {
		t.Errorf("the log of a crash is removed with the model: %v", err)
	}
}

func TestAbort(t *testing.T) {
	m := tiny(t, newEngine(t), nil)
	prompt := []int32{1, 2, 3}
	process := m.process

	ctx, cancel := context.WithCancel(t.Context())
	tokens := 0
	stats, err := m.Generate(ctx, prompt, infer.Sampling{Temperature: 1, Seed: 4}, func(infer.Token) error {
		if tokens++; tokens == 5 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || stats.Stop != infer.StopAborted || stats.Tokens < 5 {
		t.Errorf("cancelled at 5: %+v, %v", stats, err)
	}
	full := errors.New("disk full")
	stats, err = m.Generate(t.Context(), prompt, infer.Sampling{Temperature: 1, Seed: 4}, func(infer.Token) error { return full })
	if !errors.Is(err, full) || stats.Stop != infer.StopAborted {
		t.Errorf("callback's error: %+v, %v", stats, err)
	}
	if _, err = m.Generate(ctx, prompt, infer.Sampling{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	// The cache is whole afterwards: it gives the same text as that of a model that was never interrupted.
	generate := func(m *Model) (out []int32) {
		if _, err := m.Generate(t.Context(), prompt, infer.Sampling{MaxTokens: 10}, func(t infer.Token) error { out = append(out, t.ID); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got, want := generate(m), generate(tiny(t, newEngine(t), nil)); !slices.Equal(got, want) {
		t.Errorf("after aborts %v, else %v", got, want)
	}
	if m.process != process {
		t.Error("an abort took another process")
	}
}

// TestAbortPrompt interrupts the reading of a long prompt on the default model, in the middle of a batch.
func TestAbortPrompt(t *testing.T) {
	m := loadModel(t, newEngine(t), infer.Defaults(defaultModel(t)))
	ctx, cancel := context.WithCancel(t.Context())
	prompt := make([]int32, 4000)
	for i := range prompt {
		prompt[i] = int32(i)
	}
	done := make(chan error, 1)
	go func() {
		_, err := m.Generate(ctx, prompt, infer.Sampling{}, nil)
		done <- err
	}()
	eventually(t, "the prompt being read", func() bool { return m.Queue().Running != "" })
	cancel()
	before := childTime(t, m.process.cmd.Process.Pid)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The whole prompt takes more than ten seconds of processor time, an abort some milliseconds.
	if used := childTime(t, m.process.cmd.Process.Pid) - before; used > 5*time.Second {
		t.Errorf("it computed for another %v", used)
	}
}

// childTime returns the processor time that a process has used.
func childTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skipf("needs to know the engine's processor time: %v", err)
	}
	const user, system, perSecond = 11, 12, 100 // fields after the name, in clock ticks, see proc_pid_stat(5)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := 0
	for _, i := range []int{user, system} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / perSecond
}

func TestCloseInMidGeneration(t *testing.T) {
	e := newEngine(t)
	m := tiny(t, e, nil)
	pid := m.process.cmd.Process.Pid
	first := make(chan struct{})
	var once sync.Once
	done := make(chan error, 2)
	go func() {
		_, err := m.Generate(context.Background(), []int32{1}, infer.Sampling{Temperature: 1}, func(infer.Token) error {
			once.Do(func() { close(first) })
			return nil
		})
		done <- err
	}()
	<-first
	waiting := make(chan int, 8)
	go func() {
		_, err := m.Score(infer.WithQueueTrace(context.Background(), func(p int) { waiting <- p }), [][]int32{{1, 2}}, nil)
		done <- err
	}()
	<-waiting
	e.Close()
	for range 2 {
		if err := <-done; !errors.Is(err, infer.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
	if _, err := m.Tokenize(context.Background(), "x", false); !errors.Is(err, infer.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := m.SetThreads(1); !errors.Is(err, infer.ErrClosed) {
		t.Errorf("threads after Close: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(e.options.LogDir, "*"))
	if len(left) > 0 {
		t.Errorf("logs left behind: %v", left)
	}
}

func TestQueueOfCallers(t *testing.T) {
	m := tiny(t, newEngine(t), nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			prompt := []int32{int32(i), 7, 9}
			stats, err := m.Generate(t.Context(), prompt, infer.Sampling{MaxTokens: 5, Temperature: 1, Seed: uint64(i)}, nil)
			if err != nil || stats.Tokens == 0 && stats.Stop != infer.StopEnd {
				t.Errorf("caller %d: %+v, %v", i, stats, err)
			}
			if _, err := m.Score(t.Context(), [][]int32{prompt, prompt}, nil); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if q := m.Queue(); q.Running != "" || len(q.Waiting) != 0 {
		t.Errorf("queue %+v", q)
	}
}

func TestCancelLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := newEngine(t)
	path := gguftest.Write(t, gguftest.Tiny("llama"))
	if _, err := e.Load(ctx, tinyOptions(path), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	_, err := e.Load(ctx, tinyOptions(path), func(float64) { cancel() })
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the middle: %v", err)
	}
	if err != nil {
		if left, _ := filepath.Glob(filepath.Join(e.options.LogDir, "*")); len(left) > 0 {
			t.Errorf("logs left behind: %v", left)
		}
	}
}
