package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/search"
)

// BenchmarkChatDuringSearch compares how fast the default model answers while a search is under way with how fast it answers
// while nothing else runs: the search gives way, and the tokens per second that are left show how well.
//
//	LATHE_SLOW=1 go test ./explorer/engine -run xxx -bench ChatDuringSearch -benchtime 5x
func BenchmarkChatDuringSearch(b *testing.B) {
	if os.Getenv("LATHE_SLOW") == "" {
		b.Skip("LATHE_SLOW is not set")
	}
	cache := os.Getenv("LATHE_CACHE")
	model := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(model); err != nil {
		b.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	text := filepath.Join(b.TempDir(), "words.txt")
	words := strings.Repeat("The lathe turns a heavy block of wood until only the shape that was wanted remains. ", 400)
	if err := os.WriteFile(text, []byte(words), 0o644); err != nil {
		b.Fatal(err)
	}
	w, err := New(Options{Text: text, Scratch: b.TempDir(), LogDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	e, err := explorer.Open(b.Context(), explorer.Options{Model: model, Workspace: b.TempDir(), Backend: w})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	do := func(c explorer.Command) explorer.Receipt {
		r, err := e.Do(b.Context(), explorer.Actor{Name: "ada", Role: explorer.RoleOwner}, c)
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	until := func(done func(*explorer.Snapshot) bool) {
		if _, err := e.Until(b.Context(), done); err != nil {
			b.Fatal(err)
		}
	}
	chat := do(explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 128}}).Chat
	reply := func(again explorer.Command) explorer.Reply {
		do(again)
		until(func(s *explorer.Snapshot) bool { c, _ := s.Chat(chat); return !c.Busy })
		c, _ := e.Snapshot().Chat(chat)
		r := c.Columns[0].Replies[0]
		if r.Err != "" || r.Tokens == 0 {
			b.Fatalf("no reply: %+v", r)
		}
		return r
	}
	reply(explorer.Say{Chat: chat, Text: "Write a long story about a lathe."}) // loads the model
	const alone = 5
	var idle, during, first float64
	for range alone {
		idle += reply(explorer.Regenerate{Chat: chat}).TokensPerSecond / alone
	}
	job := do(explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Calibration: explorer.Calibration{Windows: 4, Seq: 512}}).Job
	n, seen := 0.0, 0
	for b.Loop() {
		until(func(s *explorer.Snapshot) bool { // it computes again
			j, _ := s.Job(job)
			if j.State.Ended() {
				b.Fatalf("the search is %s: %s", j.State, j.Err)
			}
			return j.State == explorer.Running && s.Search.Evaluated > seen
		})
		r := reply(explorer.Regenerate{Chat: chat})
		n++
		during += r.TokensPerSecond
		first += r.FirstToken.Seconds()
		seen = e.Snapshot().Search.Evaluated
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(idle, "idle-tok/s")
	b.ReportMetric(during/n, "search-tok/s")
	b.ReportMetric(100*during/n/idle, "%-kept")
	b.ReportMetric(first/n, "first-token-s")
	do(explorer.StopJob{Job: job})
}
