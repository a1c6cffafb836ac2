package explorer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// proceeds fails the test if f does not return while something else is held.
func proceeds(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s waits", what)
	}
}

// viewersProceed gives the commands that write nothing and reads what they lead to.
func viewersProceed(t *testing.T, e *explorer.Exploration, running explorer.JobID) {
	t.Helper()
	proceeds(t, "a viewer", func() {
		before := e.Snapshot().Revision
		changed := e.Changed(before)
		command(t, e, explorer.Attach{Where: "masks"})
		<-changed
		if s := e.Snapshot(); s.Revision <= before || len(s.Presence) != 1 {
			t.Errorf("revision %d after %d, %d viewers", s.Revision, before, len(s.Presence))
		}
		command(t, e, explorer.Detach{})
	})
	proceeds(t, "a job", func() { command(t, e, explorer.StopJob{Job: running}); explorertest.Ended(t, e, running) })
}

// A prediction that takes long holds up who asked for it and nobody else.
func TestNobodyWaitsForAPrediction(t *testing.T) {
	b := explorertest.New()
	v := &valve{}
	b.Pace = v.pace
	e := explorertest.Open(t, b, t.TempDir())
	explorertest.Do(t, e, explorer.GatherStatistics{})
	v.close("windows")
	running := start(t, e, explorer.Measure{Subnet: explorer.DenseID})
	untilState(t, e, running, explorer.Running)

	predicting, predict := make(chan struct{}), make(chan struct{})
	b.Predicting = func(masks subnet.Masks) {
		if masks.Layer(3).Channels.IsEmpty() && !masks.Layer(4).Channels.IsEmpty() {
			close(predicting)
			<-predict
		}
	}
	edited := make(chan error)
	go func() {
		_, err := e.Do(t.Context(), explorertest.Owner, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{3}}}})
		edited <- err
	}()
	<-predicting
	proceeds(t, "a command that writes", func() {
		command(t, e, explorer.AddSubnet{Name: "another", Masks: masksText(t, subnet.Dense(explorertest.Geometry()))})
		command(t, e, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}})
	})
	viewersProceed(t, e, running)
	estimate := e.Snapshot().Draft.Estimate
	close(predict)
	if err := <-edited; err != nil {
		t.Error(err)
	}
	if got := e.Snapshot().Draft.Estimate; got != estimate || !got.Valid {
		t.Errorf("the estimate of an earlier draft took the place of %+v: %+v", estimate, got)
	}
}

// A disk that takes long holds up commands that write, in order, and nobody else.
func TestNobodyWaitsForTheDisk(t *testing.T) {
	b := explorertest.New()
	v := &valve{}
	b.Pace = v.pace
	e := explorertest.Open(t, b, t.TempDir())
	v.close("windows")
	running := start(t, e, explorer.Measure{Subnet: explorer.DenseID})
	untilState(t, e, running, explorer.Running)

	appending, proceed := make(chan struct{}, 100), make(chan struct{})
	e.HoldAppends(func() {
		appending <- struct{}{}
		<-proceed
	})
	text := masksText(t, subnet.Dense(explorertest.Geometry()))
	added := make(chan error)
	go func() {
		_, err := e.Do(t.Context(), explorertest.Owner, explorer.AddSubnet{Name: "first", Masks: text})
		added <- err
	}()
	<-appending
	if n := len(e.Snapshot().Subnets); n != 0 {
		t.Errorf("%d subnets are shown before they are on the disk", n)
	}
	viewersProceed(t, e, running)
	proceeds(t, "a command whose context ends", func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := e.Do(ctx, explorertest.Owner, explorer.AddSubnet{Name: "never", Masks: text}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
	close(proceed)
	if err := <-added; err != nil {
		t.Error(err)
	}
	s := e.Snapshot()
	if len(s.Subnets) != 1 || s.Subnets[0].Name != "first" || len(s.Presence) != 0 {
		t.Errorf("subnets %v, viewers %v", s.Subnets, s.Presence)
	}
	if j, _ := s.Job(running); j.State != explorer.Stopped {
		t.Errorf("the job that was stopped meanwhile is %s", j.State)
	}
}
