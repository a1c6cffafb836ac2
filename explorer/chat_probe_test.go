package explorer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestProbe: each prompt is asked by itself, of all subnets, and replies do not depend on earlier ones.
func TestProbe(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	ask := func(prompts ...string) explorer.Chat {
		t.Helper()
		r, err := e.Do(t.Context(), explorertest.Owner, explorer.Probe{Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Prompts: prompts})
		if err != nil {
			t.Fatal(err)
		}
		c, ok := explorertest.Quiet(t, e).Chat(r.Chat)
		if !ok || c.Busy || !c.Apart {
			t.Fatalf("chat %+v", c)
		}
		return c
	}
	all := ask()
	want := explorer.ProbePrompts()
	if len(all.Prompts) != len(want) || len(want) < 5 {
		t.Fatalf("%d prompts, want %d", len(all.Prompts), len(want))
	}
	for i, p := range all.Prompts {
		if p.Text != want[i].Text || p.Look == "" || p.Name == "" {
			t.Errorf("prompt %d: %+v", i, p)
		}
		alone := ask(p.Text)
		for k, column := range all.Columns {
			r, single := column.Replies[i], alone.Columns[k].Replies[0]
			if r.Text == "" || r.Text != single.Text || r.PromptTokens != single.PromptTokens || r.Streaming || r.Err != "" {
				t.Errorf("prompt %d, column %d: %+v, asked alone %+v", i, k, r, single)
			}
		}
		if all.Columns[1].Replies[i].Agreement < 0 {
			t.Errorf("prompt %d: the agreement is unknown", i)
		}
	}
	for name, c := range map[string]explorer.Probe{
		"no subnet": {}, "empty prompt": {Subnets: []explorer.SubnetID{explorer.DenseID}, Prompts: []string{"a", " "}},
		"too many": {Subnets: []explorer.SubnetID{explorer.DenseID}, Prompts: slices.Repeat([]string{"a"}, 101)},
	} {
		if _, err := e.Do(t.Context(), explorertest.Owner, c); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.Do(t.Context(), explorer.Actor{}, explorer.Probe{Subnets: []explorer.SubnetID{explorer.DenseID}}); !errors.Is(err, explorer.ErrForbidden) {
		t.Errorf("by a viewer: %v", err)
	}
}

// TestProbeStops: stopping the replies ends the whole probe.
func TestProbeStops(t *testing.T) {
	b := explorertest.New()
	reached, blocked := make(chan struct{}), make(chan struct{})
	tokens := 0
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "token" {
			return nil
		}
		if tokens++; tokens == 3 {
			close(reached)
			select {
			case <-ctx.Done():
			case <-blocked:
			}
		}
		return ctx.Err()
	}
	defer close(blocked)
	e := explorertest.Open(t, b, "")
	r, err := e.Do(t.Context(), explorertest.Owner, explorer.Probe{Subnets: []explorer.SubnetID{explorer.DenseID}})
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.StopReply{Chat: r.Chat}); err != nil {
		t.Fatal(err)
	}
	c, _ := explorertest.Quiet(t, e).Chat(r.Chat)
	if len(c.Prompts) != 1 || !c.Columns[0].Replies[0].Stopped || c.Busy {
		t.Errorf("stopped: %+v", c)
	}
	for _, m := range e.Snapshot().Messages {
		if strings.Contains(m.Text, "could not be saved") {
			t.Errorf("message %q", m.Text)
		}
	}
}
