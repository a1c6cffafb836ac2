package infer

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// enterTraced enters from a goroutine of its own; positions receives what its trace is called with.
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

// TestQueueOwnersTakeTurns lists the order in which calls arrive, named by owner and number, and in which they must run.
func TestQueueOwnersTakeTurns(t *testing.T) {
	for _, test := range []struct{ arrive, run string }{
		{"a1 a2 a3", "a1 a2 a3"},
		{"a1 a2 a3 a4 b1", "a1 b1 a2 a3 a4"},
		{"a1 a2 a3 b1 b2 c1", "a1 b1 c1 a2 b2 a3"},
		{"a1 b1 b2 a2 a3 b3", "a1 b1 b2 a2 a3 b3"},
		{"a1 -1 -2 b1 -3", "a1 -1 b1 -2 -3"},             // calls without an owner share one
		{"a1 a2 b1 > b2 > > c1 a3", "a1 b1 a2 b2 c1 a3"}, // ">": the running call leaves
		{"a1 b1 c1 > b2 > c2 a2 > b3", "a1 b1 c1 b2 c2 a2 b3"},
		{"a1 b1 b2 xb2 b3 a2", "a1 b1 b3 a2"}, // "x": is cancelled, and costs its owner nothing
		{"a1 b1 b2 xb1 c1 b3", "a1 c1 b2 b3"},
	} {
		var q Queue
		leave := make(map[string]chan func())
		cancel := make(map[string]context.CancelFunc)
		var ran []string
		run := func() { // the running call leaves
			what := q.State().Running
			ran = append(ran, what)
			(<-leave[what])()
		}
		in := func() int {
			s := q.State()
			n := len(s.Waiting)
			if s.Running != "" {
				n++
			}
			return n
		}
		for _, call := range strings.Fields(test.arrive) {
			before := in()
			switch {
			case call == ">":
				run()
			case call[0] == 'x':
				cancel[call[1:]]()
				if <-leave[call[1:]] != nil {
					t.Errorf("%q: %s entered", test.arrive, call[1:])
				}
			default:
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				if call[0] != '-' {
					ctx = WithQueueOwner(ctx, call[:1])
				}
				var moved chan int
				moved, leave[call] = enterTraced(ctx, &q, call)
				cancel[call] = stop
				if before > 0 {
					<-moved // waiting
				} else {
					done := leave[call]
					leave[call] = make(chan func(), 1)
					leave[call] <- <-done
				}
			}
		}
		for in() > 0 {
			run()
		}
		if got := strings.Join(ran, " "); got != test.run {
			t.Errorf("%q: ran %q, want %q", test.arrive, got, test.run)
		}
		if len(q.last) > 3 {
			t.Errorf("%q: %d owners are remembered", test.arrive, len(q.last))
		}
	}
}

// TestQueueForgetsOwners has many owners arrive while one always waits.
func TestQueueForgetsOwners(t *testing.T) {
	var q Queue
	leave, err := q.Enter(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		moved, done := enterTraced(WithQueueOwner(t.Context(), strconv.Itoa(i)), &q, "x")
		<-moved
		leave()
		leave = <-done
		moved, done = enterTraced(t.Context(), &q, "again")
		<-moved
		leave()
		leave = <-done
	}
	leave()
	if n := len(q.last); n > 4 {
		t.Errorf("%d owners are remembered", n)
	}
}

// TestQueueRace has many callers enter, cancel and leave: never two are inside, and none is lost.
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
			leave, err := q.Enter(WithQueueOwner(ctx, strconv.Itoa(i%5)), "x")
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
