package infertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

// calls lists every method that takes a context, with arguments that succeed.
func calls(m infer.Model) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Tokenize":   func(ctx context.Context) error { _, err := m.Tokenize(ctx, "x", true); return err },
		"Detokenize": func(ctx context.Context) error { _, err := m.Detokenize(ctx, []int32{1}); return err },
		"Pieces":     func(ctx context.Context) error { _, err := m.Pieces(ctx, []int32{1}); return err },
		"Prompt":     func(ctx context.Context) error { _, err := m.Prompt(ctx, conversation()); return err },
		"Generate": func(ctx context.Context) error {
			_, err := m.Generate(ctx, []int32{1}, infer.Sampling{MaxTokens: 1}, nil)
			return err
		},
		"Chat": func(ctx context.Context) error {
			_, err := m.Chat(ctx, conversation(), infer.Sampling{MaxTokens: 1}, nil)
			return err
		},
		"Score": func(ctx context.Context) error { _, err := m.Score(ctx, [][]int32{{1, 2}}, nil); return err },
		"Distributions": func(ctx context.Context) error {
			_, err := m.Distributions(ctx, [][]int32{{1, 2}}, infer.DistributionOptions{})
			return err
		},
		"Bench": func(ctx context.Context) error {
			_, err := m.Bench(ctx, infer.BenchOptions{Prompt: []int{2}, Repeats: 1})
			return err
		},
		"Memory": func(ctx context.Context) error { _, err := m.Memory(ctx); return err },
	}
}

func (s *suite) threads(t *testing.T) {
	if err := s.model.SetThreads(2); err != nil || s.model.Info().Threads != 2 {
		t.Errorf("two threads: %v, %d", err, s.model.Info().Threads)
	}
	// From a callback, while the model computes.
	_, err := s.model.Generate(s.ctx, s.openEnded(t, 4), infer.Sampling{MaxTokens: 4}, func(infer.Token) error { return s.model.SetThreads(1) })
	if err != nil || s.model.Info().Threads != 1 {
		t.Errorf("one thread while generating: %v, %d", err, s.model.Info().Threads)
	}
	if err := s.model.SetThreads(0); err != nil || s.model.Info().Threads < 1 {
		t.Errorf("all cores: %v, %d", err, s.model.Info().Threads)
	}
	for _, n := range []int{-1, 1 << 20} {
		expect(t, "threads", s.model.SetThreads(n), infer.ErrInvalid)
	}
	if err := s.model.SetThreads(1); err != nil {
		t.Error(err)
	}
}

// refused passes arguments that each method must refuse, and then uses the model.
func (s *suite) refused(t *testing.T) {
	m, ctx := s.model, s.ctx
	vocab := int32(m.Info().Vocab)
	distributions := func(windows [][]int32, o infer.DistributionOptions) error {
		_, err := m.Distributions(ctx, windows, o)
		return err
	}
	generate := func(prompt []int32) error {
		stats, err := m.Generate(ctx, prompt, infer.Sampling{MaxTokens: 1}, func(infer.Token) error { return errors.New("it generates") })
		if stats.Stop != infer.StopAborted {
			t.Errorf("refused prompt: %+v", stats)
		}
		return err
	}
	bench := func(o infer.BenchOptions) error { _, err := m.Bench(ctx, o); return err }
	pair := [][]int32{{1, 2}}
	for _, test := range []struct {
		name string
		err  error
		want error
	}{
		{"negative token", generate([]int32{-1}), infer.ErrBadToken},
		{"token above the vocabulary", generate([]int32{1, vocab}), infer.ErrBadToken},
		{"scored token", distributions([][]int32{{1, vocab}}, infer.DistributionOptions{}), infer.ErrBadToken},
		{"requested token", distributions(pair, infer.DistributionOptions{At: [][][]int32{{{-7}}}}), infer.ErrBadToken},
		{"detokenized token", second(m.Detokenize(ctx, []int32{vocab})), infer.ErrBadToken},
		{"token with a piece", second(m.Pieces(ctx, []int32{1 << 30})), infer.ErrBadToken},
		{"empty prompt", generate(nil), infer.ErrInvalid},
		{"prompt as long as the context", generate(s.window(contextSize)), infer.ErrContextFull},
		{"window longer than the context", distributions([][]int32{s.window(contextSize + 1)}, infer.DistributionOptions{}), infer.ErrContextFull},
		{"first position 0", distributions(pair, infer.DistributionOptions{From: []int{0}}), infer.ErrInvalid},
		{"first positions of other windows", distributions(pair, infer.DistributionOptions{From: []int{1, 1}}), infer.ErrInvalid},
		{"requested tokens of other windows", distributions(pair, infer.DistributionOptions{At: [][][]int32{}}), infer.ErrInvalid},
		{"requested tokens of other positions", distributions(pair, infer.DistributionOptions{At: [][][]int32{{nil, nil}}}), infer.ErrInvalid},
		{"benchmark of nothing", bench(infer.BenchOptions{Prompt: []int{0}}), infer.ErrInvalid},
		{"benchmark longer than the context", bench(infer.BenchOptions{Gen: []int{1}, Depth: contextSize}), infer.ErrContextFull},
	} {
		expect(t, test.name, test.err, test.want)
	}
	s.works(t)
}

func second[T any](_ T, err error) error { return err }

// works uses every method once.
func (s *suite) works(t *testing.T) {
	t.Helper()
	for name, call := range calls(s.model) {
		if err := call(s.ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if q := s.model.Queue(); q.Running != "" || len(q.Waiting) != 0 {
		t.Errorf("the queue of an idle model: %+v", q)
	}
}

// cancelled ends every method's context before the call, and while it waits.
func (s *suite) cancelled(t *testing.T) {
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	for name, call := range calls(s.model) {
		expect(t, name+" with a context that has ended", call(ended), context.Canceled)
	}
	s.hold(t, func() {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		methods := calls(s.model)
		failed := make(chan error, len(methods))
		for _, call := range methods {
			go func() { failed <- call(ctx) }()
		}
		eventually(t, "all calls in the queue", func() bool { return len(s.model.Queue().Waiting) == len(methods) })
		cancel()
		for range methods {
			expect(t, "cancelled while waiting", <-failed, context.Canceled)
		}
		if q := s.model.Queue(); q.Running != "generate" || len(q.Waiting) != 0 {
			t.Errorf("queue %+v after all that waited gave up", q)
		}
	})
	s.works(t)
}

// hold calls during while the model generates.
func (s *suite) hold(t *testing.T, during func()) {
	t.Helper()
	var once sync.Once
	_, err := s.model.Generate(s.ctx, s.openEnded(t, 2), infer.Sampling{MaxTokens: 2}, func(infer.Token) error {
		once.Do(during)
		return nil
	})
	if err != nil {
		t.Errorf("generate: %v", err)
	}
}

func (s *suite) queue(t *testing.T) {
	done := make(chan []int, 1)
	s.hold(t, func() {
		go func() {
			var positions []int
			ctx := infer.WithQueueTrace(s.ctx, func(p int) { positions = append(positions, p) })
			if _, err := s.model.Tokenize(ctx, "x", false); err != nil {
				t.Error(err)
			}
			done <- positions
		}()
		eventually(t, "a call in the queue", func() bool { return len(s.model.Queue().Waiting) == 1 })
		if q := s.model.Queue(); q.Running != "generate" || !slices.Equal(q.Waiting, []string{"tokenize"}) {
			t.Errorf("queue %+v", q)
		}
	})
	if got := <-done; !slices.Equal(got, []int{1, 0}) {
		t.Errorf("positions %v, want 1 and then 0", got)
	}

	// Another caller has its turn between the windows of a scoring.
	passed := make(chan error, 1)
	window := s.window(20)
	asked, answered := false, false
	_, err := s.model.Score(s.ctx, slices.Repeat([][]int32{window}, 3), func(p infer.Progress) {
		switch {
		case !asked:
			asked = true
			go func() { passed <- second(s.model.Tokenize(s.ctx, "x", false)) }()
			eventually(t, "a call beside a scoring", func() bool { return len(s.model.Queue().Waiting) > 0 || len(passed) > 0 })
		case !answered && p.Done > len(window):
			answered = true
			if eventually(t, "the turn between two windows", func() bool { return len(passed) > 0 }) {
				if err := <-passed; err != nil {
					t.Error(err)
				}
			}
		}
	})
	if err != nil || !answered {
		t.Errorf("scoring: %v, the other call was answered: %v", err, answered)
	}
}

// concurrent repeats in parallel what was computed alone.
func (s *suite) concurrent(t *testing.T) {
	const callers = 8
	sampling := func(i int) infer.Sampling {
		return infer.Sampling{MaxTokens: 6, TopK: 1, Temperature: 1, Seed: uint64(i)}
	}
	want := make([][]int32, callers)
	for i := range want {
		want[i] = s.run(t, s.window(4+i), sampling(i)).ids
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			ctx := infer.WithQueueOwner(s.ctx, string(rune('a'+i%3)))
			var got []int32
			_, err := s.model.Generate(ctx, s.window(4+i), sampling(i), func(token infer.Token) error {
				got = append(got, token.ID)
				return nil
			})
			if err != nil || !slices.Equal(got, want[i]) {
				t.Errorf("caller %d: %v, %v; alone %v", i, got, err, want[i])
			}
			for name, call := range calls(s.model) {
				if err := call(ctx); err != nil {
					t.Errorf("caller %d: %s: %v", i, name, err)
				}
			}
		})
	}
	wg.Wait()
	s.works(t)
}

// closing closes a model that computes, with a call in its queue, through its engine.
func (s Subject) closing(t *testing.T) {
	e := s.Engine(t)
	var models [2]infer.Model
	for i := range models {
		var err error
		if models[i], err = e.Load(t.Context(), s.options(), nil); err != nil {
			t.Fatal(err)
		}
	}
	m := models[0]
	prompt := (&suite{Subject: s, ctx: t.Context(), model: m}).openEnded(t, 8)
	generating, closed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	failed := make(chan error, 2)
	go func() {
		_, err := m.Generate(t.Context(), prompt, infer.Sampling{}, func(infer.Token) error {
			once.Do(func() { close(generating); <-closed })
			return nil
		})
		failed <- err
	}()
	<-generating
	go func() { failed <- second(m.Score(t.Context(), [][]int32{{1, 2}}, nil)) }()
	eventually(t, "a call in the queue", func() bool { return len(m.Queue().Waiting) == 1 })
	if err := e.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	close(closed)
	for range 2 {
		expect(t, "closed while generating, or waiting", <-failed, infer.ErrClosed)
	}
	for i, m := range models {
		for name, call := range calls(m) {
			expect(t, name+" after Close", call(t.Context()), infer.ErrClosed)
		}
		expect(t, "SetThreads after Close", m.SetThreads(1), infer.ErrClosed)
		if err := m.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if m.Info().Path == "" || m.Queue().Running != "" {
			t.Errorf("model %d after Close: %+v, %+v", i, m.Info(), m.Queue())
		}
	}
}
