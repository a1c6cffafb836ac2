package infer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
)

// enterTraced enters from a goroutine of its own; positions are what its trace is told.
func enterTraced(ctx context.Context, q *Queue, what string) (positions chan int, done chan func()) {
	positions, done = make(chan int, 16), make(chan func(), 1)
	go func() {
		leave, err := q.Enter(WithQueueTrace(ctx, func(p int) { positions <- p }), what)
		if err != nil {
			leave = nil
		}
		done <- leave
	}()
	return positions, done
}

func TestQueueOrder(t *testing.T) {
	var q Queue
	ctx := context.Background()
	leave, err := q.Enter(ctx, "first")
	if err != nil {
		t.Fatal(err)
	}
	p2, d2 := enterTraced(ctx, &q, "second")
	if got := <-p2; got != 1 {
		t.Errorf("second waits at %d, want 1", got)
	}
	p3, d3 := enterTraced(ctx, &q, "third")
	if got := <-p3; got != 2 {
		t.Errorf("third waits at %d, want 2", got)
	}
	state := q.State()
	if state.Running != "first" || !slices.Equal(state.Waiting, []string{"second", "third"}) {
		t.Errorf("state %+v", state)
	}
	leave()
	leave() // a second call changes nothing
	leave2 := <-d2
	if got := <-p2; got != 0 {
		t.Errorf("second enters at %d, want 0", got)
	}
	if got := <-p3; got != 1 {
		t.Errorf("third moved to %d, want 1", got)
	}
	leave2()
	(<-d3)()
	if state := q.State(); state.Running != "" || len(state.Waiting) != 0 {
		t.Errorf("state after all left: %+v", state)
	}
}

func TestQueueCancel(t *testing.T) {
	var q Queue
	leave, _ := q.Enter(context.Background(), "first")
	ctx, cancel := context.WithCancel(context.Background())
	p2, d2 := enterTraced(ctx, &q, "second")
	<-p2
	p3, d3 := enterTraced(context.Background(), &q, "third")
	<-p3
	cancel()
	if leave2 := <-d2; leave2 != nil {
		t.Fatal("a cancelled caller entered")
	}
	if got := <-p3; got != 1 {
		t.Errorf("third moved to %d, want 1", got)
	}
	leave()
	(<-d3)()
	if _, err := q.Enter(ctx, "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("Enter with a cancelled context: %v", err)
	}
}

// TestQueueRace has many callers come, cancel and go: never two inside, and nobody is lost.
func TestQueueRace(t *testing.T) {
	var q Queue
	var inside sync.Mutex
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if i%3 == 0 {
				go cancel()
			}
			leave, err := q.Enter(ctx, "x")
			if err != nil {
				return
			}
			if !inside.TryLock() {
				t.Error("two callers inside")
				return
			}
			inside.Unlock()
			leave()
		})
	}
	wg.Wait()
	if s := q.State(); s.Running != "" || len(s.Waiting) != 0 {
		t.Errorf("left behind: %+v", s)
	}
}
