package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// startNATS starts a NATS server for a script. NATS is its address, and the variables of user and password are those that it asks for.
func startNATS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: nats")
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: filepath.Join(ts.MkAbs("."), "nats"), SyncAlways: true,
		Username: "ada", Password: "lovelace",
	})
	ts.Check(err)
	s.Start()
	ts.Defer(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		ts.Fatalf("the NATS server does not start")
	}
	ts.Setenv("NATS", s.ClientURL())
	ts.Setenv(engine.NATSUserVariable, "ada")
	ts.Setenv(engine.NATSPasswordVariable, "lovelace")
}

// jetStream connects to the server of a script.
func jetStream(ts *testscript.TestScript) (jetstream.JetStream, func()) {
	conn, err := nats.Connect(ts.Getenv("NATS"), nats.UserInfo("ada", "lovelace"))
	ts.Check(err)
	js, err := jetstream.New(conn)
	ts.Check(err)
	return js, conn.Close
}

// countStreams checks how many streams the server of a script has.
func countStreams(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: streams N")
	}
	js, end := jetStream(ts)
	defer end()
	info, err := js.AccountInfo(context.Background())
	ts.Check(err)
	if got := strconv.Itoa(info.Streams); got != args[0] {
		ts.Fatalf("the server has %s streams, not %s", got, args[0])
	}
}

// leaveStream makes the server and a workspace look as if a search of the workspace had been killed.
func leaveStream(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: leave FILE")
	}
	const search = "0123456789abcdef"
	js, end := jetStream(ts)
	defer end()
	_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "lathe-" + search + "-tasks", Subjects: []string{"lathe." + search + ".task"}})
	ts.Check(err)
	data, err := json.Marshal(map[string]string{"NATS": ts.Getenv("NATS"), "Search": search})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// copyLastLine copies the last line of a file.
func copyLastLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lastline FROM TO")
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(lines[len(lines)-1]+"\n"), 0o600))
}

// timeless removes the durations and moments from a file of JSON.
func timeless(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: timeless FILE")
	}
	text := regexp.MustCompile(`,"([Ss]econds":[0-9.e+-]+|[Aa]t":"[^"]*")`).ReplaceAllString(ts.ReadFile(args[0]), "")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// TestWorkersOfARunningSearch shows the workers of a search while it is paused, and drains one.
func TestWorkersOfARunningSearch(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	lathe := func(role explorer.Role, args ...string) (string, int) {
		var out, words strings.Builder
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &words, getenv: func(string) string { return "" }, shared: ex, who: explorer.Actor{Name: "ed", Role: role}}
		status := run(t.Context(), a, args)
		return out.String() + words.String(), status
	}
	r, err := ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 100000}, Machines: explorer.Machines{Workers: 2, Async: true}})
	if err != nil {
		t.Fatal(err)
	}
	explorertest.Until(t, ex, "workers", func(s *explorer.Snapshot) bool { return len(s.Search.Workers) == 2 })
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.PauseJob{Job: r.Job}); err != nil {
		t.Fatal(err)
	}
	var shown searchStatus
	out, status := lathe(explorer.RoleViewer, "search", "status", "--json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil || status != 0 {
		t.Fatalf("status %d: %s: %v", status, out, err)
	}
	if len(shown.Workers) != 2 || shown.Workers[0].ID != "local-1" || shown.Workers[0].PerMinute == 0 || shown.Workers[0].Device == "" || shown.Queued == 0 || !shown.Async || len(shown.GivenUp) != 1 {
		t.Errorf("workers %+v, %d handed out, async %v", shown.Workers, shown.Queued, shown.Async)
	}
	if out, _ := lathe(explorer.RoleViewer, "search", "status"); !strings.Contains(out, "2 workers, 4 candidates handed out") || !strings.Contains(out, "does not wait for stragglers") || !strings.Contains(out, "3 workers could not score it") {
		t.Errorf("status: %s", out)
	}
	if out, status := lathe(explorer.RoleViewer, "search", "drain", "local-1"); status == 0 || !strings.Contains(out, "needs the role editor") {
		t.Errorf("a viewer drains: status %d: %s", status, out)
	}
	if out, status := lathe(explorer.RoleEditor, "search", "drain", "local-3"); status == 0 || !strings.Contains(out, `worker "local-3": not found`) {
		t.Errorf("no such worker: status %d: %s", status, out)
	}
	if out, status := lathe(explorer.RoleEditor, "search", "drain", "local-1"); status != 0 {
		t.Errorf("drain: status %d: %s", status, out)
	}
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.ResumeJob{Job: r.Job}); err != nil {
		t.Fatal(err)
	}
	explorertest.Until(t, ex, "a worker to leave", func(s *explorer.Snapshot) bool {
		return len(s.Search.Workers) == 2 && s.Search.Workers[0].State == "gone"
	})
	for _, args := range [][]string{{"--nats", "nats://127.0.0.1:4222"}, {"--creds", "x"}, {"--shared", "x"}, {"--nats-ca", "x"}} {
		if out, status := lathe(explorer.RoleOwner, append([]string{"search", "start"}, args...)...); status != exitUsage || !strings.Contains(out, "is for the server's own user") {
			t.Errorf("%v of a client: status %d: %s", args, status, out)
		}
	}
}

// TestWorkersOfOtherJobs shows the workers of statistics and of measurements while they run, and drains one.
func TestWorkersOfOtherJobs(t *testing.T) {
	for name, command := range map[string]explorer.Command{
		"statistics":   explorer.GatherStatistics{Machines: explorer.Machines{Workers: 2}},
		"measurements": explorer.MeasureAll{Of: []explorer.Measure{{Subnet: explorer.DenseID, Seq: 64}, {Subnet: explorer.DraftID, Seq: 64}}, Machines: explorer.Machines{Workers: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := explorertest.New()
			hold := make(chan struct{})
			b.Pace = func(ctx context.Context, _ string) error {
				select {
				case <-hold:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			ex := explorertest.Open(t, b, "")
			lathe := func(args ...string) (string, int) {
				var out, words strings.Builder
				a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &words, getenv: func(string) string { return "" }, shared: ex, who: explorer.Actor{Name: "ed", Role: explorer.RoleEditor}}
				status := run(t.Context(), a, args)
				return out.String() + words.String(), status
			}
			r, err := ex.Do(t.Context(), explorertest.Owner, command)
			if err != nil {
				t.Fatal(err)
			}
			explorertest.Until(t, ex, "workers", func(s *explorer.Snapshot) bool { return len(s.Search.Workers) == 2 })
			var shown searchStatus
			out, status := lathe("search", "status", "--json")
			if err := json.Unmarshal([]byte(out), &shown); err != nil || status != 0 {
				t.Fatalf("status %d: %s: %v", status, out, err)
			}
			if len(shown.Workers) != 2 || shown.Workers[0].ID != "local-1" || shown.Queued != 2 {
				t.Errorf("workers %+v, %d handed out", shown.Workers, shown.Queued)
			}
			if out, status := lathe("search", "drain", "local-1"); status != 0 {
				t.Errorf("drain: status %d: %s", status, out)
			}
			if s := ex.Snapshot().Search; len(s.Workers) != 2 || s.Workers[0].State != "gone" {
				t.Errorf("workers %+v", s.Workers)
			}
			close(hold)
			explorertest.Until(t, ex, "the end", func(s *explorer.Snapshot) bool {
				j, ok := s.Job(r.Job)
				return ok && j.State == explorer.Done && len(s.Search.Workers) == 0
			})
			if out, status := lathe("search", "drain", "local-1"); status == 0 || !strings.Contains(out, "not found") {
				t.Errorf("drain after the end: status %d: %s", status, out)
			}
		})
	}
}

// TestExamplesOfWorkers checks that the flags in the examples of a deployment exist.
func TestExamplesOfWorkers(t *testing.T) {
	root := newRoot(&app{stdout: io.Discard, stderr: io.Discard})
	flag := regexp.MustCompile(`--[a-z][a-z-]+`)
	found := 0
	for _, path := range []string{"deploy/slurm.sh", "deploy/kubernetes.yaml", "deploy/README.md"} {
		text, err := os.ReadFile(filepath.Join("../../search/remote", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
			name := "worker"
			switch {
			case strings.Contains(line, "lathe search "):
				name = "search"
			case !strings.Contains(line, "lathe worker ") && !strings.Contains(line, `args: ["worker"`):
				continue
			}
			cmd, _, err := root.Find([]string{name})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range flag.FindAllString(line, -1) {
				found++
				if f = strings.TrimPrefix(f, "--"); cmd.Flags().Lookup(f) == nil && root.PersistentFlags().Lookup(f) == nil {
					t.Errorf("%s: lathe %s has no flag --%s", path, name, f)
				}
			}
		}
	}
	if found < 15 {
		t.Errorf("%d flags in the examples", found)
	}
}
