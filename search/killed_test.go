package search_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/search"
)

// errCrash represents the end of the process: nothing is saved after it.
var errCrash = errors.New("crash")

// crashStore saves until the crash.
type crashStore struct {
	memory
	crashed *bool
}

func (c *crashStore) Save(data []byte) error {
	if *c.crashed {
		return errCrash
	}
	return c.memory.Save(data)
}

// TestKilledRunsEndAlike repeatedly kills searches at random scores, or cancels
// them; resumed, they end in the same state as one without interruptions.
func TestKilledRunsEndAlike(t *testing.T) {
	budget := search.Budget{Generations: 6}
	for name, s := range strategies() {
		l := landscape()
		options := func() search.Options {
			return search.Options{Strategy: s, Problem: l.Problem(search.Ratio(0.7), 9), Evaluator: l, Budget: budget, Unattended: true}
		}
		whole := run(t, options()).State
		for point := range uint64(20) {
			rng := rand.New(rand.NewPCG(point, 77))
			orderly := point%2 == 0
			crashed := false
			store := &crashStore{crashed: &crashed}
			for tries := 0; ; tries++ {
				crashed = false
				after := rng.IntN(1 + whole.Spent.Evaluations/3)
				if tries > 20 {
					after = whole.Spent.Evaluations + 1
				}
				ctx, cancel := context.WithCancel(context.Background())
				l.Before = func(context.Context, search.Candidate, search.Tier) error {
					if after--; after < 0 {
						if !orderly {
							crashed = true
							return errCrash
						}
						cancel()
						return ctx.Err()
					}
					return nil
				}
				o := options()
				o.Store, o.Resume = store, true
				job, err := search.NewJob(o)
				if err != nil {
					t.Fatalf("%s, point %d: %v", name, point, err)
				}
				result, err := job.Run(ctx)
				cancel()
				l.Before = nil
				if err == nil {
					if !same(t, whole, result.State) {
						t.Errorf("%s, point %d: ended in another state after %d kills", name, point, tries)
					}
					break
				}
				if !errors.Is(err, errCrash) && !errors.Is(err, context.Canceled) {
					t.Fatalf("%s, point %d: %v", name, point, err)
				}
			}
		}
	}
}

// childEnv makes the test binary a search for TestSIGKILL.
const childEnv = "LATHE_SEARCH_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child runs a ladder search in dir and prints a line for every score and the result
// at the end.
func child(dir string) {
	l := landscape()
	l.Before = func(context.Context, search.Candidate, search.Tier) error {
		_, err := fmt.Println("score")
		return err
	}
	job, err := search.NewJob(search.Options{
		Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 9), Evaluator: l,
		Budget: search.Budget{Generations: 8}, Store: search.FileStore(filepath.Join(dir, "search")), Resume: true, Unattended: true,
	})
	if err == nil {
		var result search.Result
		if result, err = job.Run(context.Background()); err == nil {
			best := result.Best
			fmt.Printf("end #%d %v %v %v %+v\n", best.ID, best.Choice, best.Score.Fitness, best.Ratio, result.State.Spent)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestSIGKILL does the same with processes.
func TestSIGKILL(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	// life runs a child until it ends, or kills it after so many scores, and
	// returns its last line.
	life := func(dir string, scores int) string {
		t.Helper()
		cmd := exec.Command(exe, "-test.run=^$")
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last := ""
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if last = lines.Text(); last == "score" {
				if scores--; scores == 0 {
					_ = cmd.Process.Kill()
				}
			}
		}
		_ = cmd.Wait()
		return last
	}
	whole := life(t.TempDir(), 0)
	if !strings.HasPrefix(whole, "end ") {
		t.Fatalf("the uninterrupted run ended with %q", whole)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	dir := t.TempDir()
	kills := 0
	for last := ""; last != whole; kills++ {
		if last = life(dir, 20+rng.IntN(60)); strings.HasPrefix(last, "end ") && last != whole {
			t.Fatalf("ended with\n%s\nafter %d kills, the uninterrupted run with\n%s", last, kills, whole)
		}
		if kills > 100 {
			t.Fatal("it never ends")
		}
	}
	t.Logf("ended alike after %d lives", kills)
}
