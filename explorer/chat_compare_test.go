package explorer_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
)

// TestRepliesAreComparedWithDense checks the tokens of a reply against the two models' whole distributions: no divergence is above that
// over the whole vocabulary, most are as large, and the tokens that dense would have written are those that it finds most likely.
func TestRepliesAreComparedWithDense(t *testing.T) {
	b := explorertest.New()
	e := explorertest.Open(t, b, "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7, Name: "thin"}).Subnet
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Sampling: &infer.Sampling{MaxTokens: 40, Seed: 5, Temperature: 1, TopK: 3}}).Chat
	command(t, e, explorer.Say{Chat: chat, Text: "What is a lathe?"})
	c, _ := explorertest.Quiet(t, e).Chat(chat)
	r := c.Columns[1].Replies[0]
	if len(r.Pieces) < 10 || r.Uncompared != "" || r.Agreement < 0 || r.Parting() < 0 {
		t.Fatalf("%d pieces (%s), agreement %g, the models part at %d", len(r.Pieces), r.Uncompared, r.Agreement, r.Parting())
	}
	if d := c.Columns[0].Replies[0]; d.Pieces != nil {
		t.Error("dense is compared with itself")
	}
	var joined strings.Builder
	other, largest := 0, 0.0
	for _, p := range r.Pieces {
		joined.WriteString(p.Text)
		if p.Dense != "" {
			other++
		}
		largest = max(largest, p.Divergence)
		if math.IsNaN(p.Divergence) || p.Divergence < 0 {
			t.Errorf("piece %+v", p)
		}
	}
	if joined.String() != r.Text {
		t.Errorf("the pieces are %q, the reply %q", joined.String(), r.Text)
	}
	if want := 1 - float64(other)/float64(len(r.Pieces)); math.Abs(want-r.Agreement) > 1e-9 {
		t.Errorf("%d of %d tokens are others than dense's, agreement %g", other, len(r.Pieces), r.Agreement)
	}
	if largest == 0 {
		t.Error("a subnet with other distributions has no divergence")
	}
	model, err := b.Open(t.Context(), "m.gguf")
	if err != nil {
		t.Fatal(err)
	}
	dense, err := model.Load(t.Context(), infer.Defaults("m.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	prompt, err := dense.Prompt(t.Context(), []infer.Message{{Role: infer.User, Content: "What is a lathe?"}})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := dense.Tokenize(t.Context(), r.Text, false)
	if err != nil {
		t.Fatal(err)
	}
	all, err := dense.Distributions(t.Context(), [][]int32{append(prompt.Tokens, reply...)}, infer.DistributionOptions{Top: infer.MaxTop, From: []int{len(prompt.Tokens)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range all[0][:min(len(all[0]), len(r.Pieces))] {
		want, err := dense.Pieces(context.Background(), p.Top[:1])
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Pieces[i].Dense; got != "" && got != want[0] {
			t.Errorf("token %d: dense would have written %q, not %q", i, want[0], got)
		}
		// The subnet's distribution as the fake makes it, over the whole vocabulary; stored divergences have three decimals.
		if full := flattened(p, masksRatio(t, e, cut), i); r.Pieces[i].Divergence > full+0.001 || r.Pieces[i].Divergence < 0.9*full-0.002 {
			t.Errorf("token %d: divergence %g, over the whole vocabulary %g", i, r.Pieces[i].Divergence, full)
		}
	}
}

func masksRatio(t *testing.T, e *explorer.Exploration, id explorer.SubnetID) float64 {
	t.Helper()
	m, err := e.Snapshot().Masks(id)
	if err != nil {
		t.Fatal(err)
	}
	return m.Size().Ratio
}

// flattened is the divergence of the fake subnet's distribution at the i-th token of a reply from dense's, which is p.
func flattened(p infer.Position, ratio float64, i int) float64 {
	q := make([]float64, len(p.Top))
	sum := 0.0
	for k, v := range p.TopProbs {
		q[k] = math.Exp(ratio * float64(v))
		sum += q[k]
	}
	if i%7 == 3 {
		q[0], q[1] = q[1], q[0]
	}
	kl := 0.0
	for k, v := range p.TopProbs {
		kl += math.Exp(float64(v)) * (float64(v) - math.Log(q[k]/sum))
	}
	return kl
}

// TestNextPromptDoesNotWaitForTheComparison sends a prompt while the reply before is compared.
func TestNextPromptDoesNotWaitForTheComparison(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7}).Subnet
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Sampling: &infer.Sampling{MaxTokens: 10, Seed: 1}}).Chat
	v.close("score")
	command(t, e, explorer.Say{Chat: chat, Text: "one"})
	explorertest.Until(t, e, "the comparison to begin", func(s *explorer.Snapshot) bool {
		c, _ := s.Chat(chat)
		return !c.Busy && c.Comparing == 1
	})
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Say{Chat: chat, Text: "two"}); err != nil {
		t.Fatalf("a prompt while a reply is compared: %v", err)
	}
	v.open("score")
	c, _ := explorertest.Quiet(t, e).Chat(chat)
	for i, r := range c.Columns[1].Replies {
		if len(r.Pieces) == 0 || r.Agreement < 0 {
			t.Errorf("reply %d is not compared", i)
		}
	}
}

// TestTitlesAndVotes names a chat by its first prompt, and counts one vote for each prompt.
func TestTitlesAndVotes(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7}).Subnet
	open := func(name string) explorer.ChatID {
		return explorertest.Do(t, e, explorer.OpenChat{Name: name, Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Sampling: &infer.Sampling{MaxTokens: 4}}).Chat
	}
	say := func(id explorer.ChatID, text string) explorer.Chat {
		t.Helper()
		command(t, e, explorer.Say{Chat: id, Text: text})
		c, _ := explorertest.Quiet(t, e).Chat(id)
		return c
	}
	own, given := open(""), open("mine")
	if got := say(given, "What is this?").Name; got != "mine" {
		t.Errorf("a chat with a name is now called %q", got)
	}
	if got := say(own, "  What does a lathe\nleave behind when it has turned everything away?").Name; got != "What does a lathe leave behind when it has…" {
		t.Errorf("the title is %q", got)
	}
	if got := say(own, "And then?").Name; !strings.HasPrefix(got, "What does") {
		t.Errorf("a second prompt changes the title to %q", got)
	}
	votes := func() []int {
		c, _ := e.Snapshot().Chat(own)
		return c.Votes
	}
	for range 3 {
		command(t, e, explorer.Vote{Chat: own, Column: 1})
	}
	if got := votes(); got[0] != 0 || got[1] != 1 {
		t.Errorf("three votes on one prompt count %v", got)
	}
	command(t, e, explorer.Vote{Chat: own, Column: 0})
	if got := votes(); got[0] != 1 || got[1] != 0 {
		t.Errorf("a changed vote counts %v", got)
	}
	say(own, "Third?")
	command(t, e, explorer.Vote{Chat: own, Column: 0})
	command(t, e, explorer.Regenerate{Chat: own})
	explorertest.Quiet(t, e)
	command(t, e, explorer.Vote{Chat: own, Column: 1})
	if got := votes(); got[0] != 2 || got[1] != 1 {
		t.Errorf("votes on two prompts and a new reply count %v", got)
	}
}
