package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Opening a device takes seconds: what only asks of a model what is known does not wait for it.
func TestNothingWaitsForTheDevice(t *testing.T) {
	b := newEngine(t)
	opening, proceed := make(chan struct{}), make(chan struct{})
	b.open = func(spec string) (*decoder.Device, error) {
		close(opening)
		<-proceed
		return decoder.OpenDevice(spec)
	}
	m := open(t, b, gguftest.Tiny("llama"))
	scored := make(chan error)
	go func() {
		_, err := m.Score(t.Context(), gguf.Subnet{Masks: subnet.Dense(m.geometry())}, explorer.ScoreRequest{Seq: 32, Windows: 1}, &quiet{})
		scored <- err
	}()
	<-opening
	if m.Info().Compute != "" {
		t.Error("it computes before the device is open")
	}
	if _, ok := m.Predict(explorer.Statistics{Ready: true}, subnet.Dense(m.geometry())); ok {
		t.Error("a prediction without statistics")
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.weights(impatient); !errors.Is(err, context.Canceled) {
		t.Errorf("a second caller whose context ended: %v", err)
	}
	close(proceed)
	if err := <-scored; err != nil {
		t.Fatal(err)
	}
	if m.Info().Compute == "" {
		t.Error("it does not report what it computes on")
	}
}

func TestLazy(t *testing.T) {
	var l lazy[int]
	ctx := t.Context()
	fail := errors.New("fail")
	if _, err := l.get(ctx, func(context.Context) (int, error) { return 0, fail }); !errors.Is(err, fail) {
		t.Fatalf("error %v", err)
	}
	if _, ok := l.reset(); ok {
		t.Error("a failure is kept")
	}

	// The first caller is stopped while the second waits: the second makes the value.
	stopped, stop := context.WithCancel(ctx)
	making := make(chan struct{})
	go func() {
		_, _ = l.get(stopped, func(ctx context.Context) (int, error) {
			close(making)
			<-ctx.Done()
			return 0, ctx.Err()
		})
	}()
	<-making
	if !l.underWay() {
		t.Error("the value is being made")
	}
	got := make(chan int)
	go func() {
		v, err := l.get(ctx, func(context.Context) (int, error) { return 7, nil })
		if err != nil {
			t.Error(err)
		}
		got <- v
	}()
	stop()
	if v := <-got; v != 7 {
		t.Errorf("value %d", v)
	}
	if v, err := l.get(ctx, func(context.Context) (int, error) { return 8, nil }); v != 7 || err != nil {
		t.Errorf("the second time: %d, %v", v, err)
	}
	if l.underWay() {
		t.Error("the value is made")
	}
	if v, ok := l.reset(); v != 7 || !ok {
		t.Errorf("reset returned %d, %v", v, ok)
	}
}

// TestHeldMakerServesWhoWaits holds the caller that makes a value until another has it: jobs that are held for a second job make
// what the second one needs.
func TestHeldMakerServesWhoWaits(t *testing.T) {
	var l lazy[int]
	held := make(chan struct{})
	made := make(chan error, 1)
	hold := func(ctx context.Context) error {
		close(held)
		<-ctx.Done() // held for as long as nobody waits
		return ctx.Err()
	}
	go func() {
		_, err := l.get(t.Context(), func(ctx context.Context) (int, error) { return 3, l.gate(hold)(ctx) })
		made <- err
	}()
	<-held
	v, err := l.get(t.Context(), func(context.Context) (int, error) { return 0, errors.New("made twice") })
	if v != 3 || err != nil {
		t.Errorf("the second caller got %d, %v", v, err)
	}
	if err := <-made; err != nil {
		t.Errorf("the first caller: %v", err)
	}
	// A gate that fails for another reason fails, and so does one whose own context ends.
	var other lazy[int]
	fail := errors.New("fail")
	if _, err := other.get(t.Context(), func(ctx context.Context) (int, error) {
		return 0, other.gate(func(context.Context) error { return fail })(ctx)
	}); !errors.Is(err, fail) {
		t.Errorf("error %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := other.get(ended, func(ctx context.Context) (int, error) {
		return 0, other.gate(func(ctx context.Context) error { return ctx.Err() })(ctx)
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
