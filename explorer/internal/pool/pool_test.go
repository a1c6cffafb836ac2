package pool

import (
	"context"
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

func TestPool(t *testing.T) {
	engine := fake.New(fake.Options{})
	defer engine.Close()
	opened, removed := map[string]int{}, map[string]int{}
	broken := errors.New("broken")
	open := func(ctx context.Context, key string) (infer.Model, func() error, error) {
		opened[key]++
		if key == "broken" && opened[key] == 1 {
			return nil, nil, broken
		}
		m, err := engine.Load(ctx, infer.Defaults(key), nil)
		return m, func() error { removed[key]++; return nil }, err
	}
	p := New(2, func(err error) { t.Error(err) })
	borrow := func(ctx context.Context, key string) (func(), error) {
		_, release, err := p.Borrow(ctx, key, func() string { return key }, open)
		return release, err
	}
	must := func(key string) func() {
		t.Helper()
		release, err := borrow(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}

	if _, err := borrow(t.Context(), "broken"); !errors.Is(err, broken) {
		t.Fatalf("error %v", err)
	}
	must("broken")() // tried again
	a := must("a")
	must("a")()
	if opened["a"] != 1 || opened["broken"] != 2 {
		t.Errorf("opened %v", opened)
	}
	b := must("b") // displaces the idle one
	if removed["broken"] != 1 || removed["a"] != 0 {
		t.Errorf("removed %v", removed)
	}

	// Both are in use: the third waits until its context ends, or until one is released.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := borrow(ctx, "c"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	got := make(chan func())
	go func() {
		_, release, err := p.Borrow(context.Background(), "c", func() string { return "c" }, open)
		if err != nil {
			t.Error(err)
		}
		got <- release
	}()
	a()
	(<-got)()
	b()
	if n := p.Trim(0); n != 2 {
		t.Errorf("%d models unloaded", n)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for key, n := range removed {
		if n != 1 {
			t.Errorf("%s removed %d times", key, n)
		}
	}
}
