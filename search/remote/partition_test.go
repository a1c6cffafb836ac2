//go:build linux

package remote_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// namespaceVariable is set in the test process that runs in a network namespace of its own.
const namespaceVariable = "LATHE_TEST_NAMESPACE"

// TestPartition cuts a worker off from the server by the network between them, while it has a task, and joins them again. The search and
// its server are in one network namespace, the worker is in another.
func TestPartition(t *testing.T) {
	if os.Getenv(namespaceVariable) == "" {
		for _, tool := range []string{"unshare", "nsenter", "ip"} {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skipf("network namespaces need %s: %v", tool, err)
			}
		}
		if out, err := exec.Command("unshare", "-n", "ip", "link", "add", "name", "here", "type", "veth", "peer", "name", "there").CombinedOutput(); err != nil {
			t.Skipf("network namespaces are not allowed here: %v: %s", err, out)
		}
		cmd := exec.Command("unshare", "-n", os.Args[0], "-test.run", "^TestPartition$", "-test.timeout", "5m")
		cmd.Env = append(os.Environ(), namespaceVariable+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	run := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", words, err, out)
		}
	}
	run("ip", "link", "set", "lo", "up")
	run("ip", "link", "add", "name", "here", "type", "veth", "peer", "name", "there")
	run("ip", "addr", "add", "10.77.0.1/24", "dev", "here")
	run("ip", "link", "set", "here", "up")
	run("ip", "addr", "add", "10.77.0.1/32", "dev", "lo") // stays when the other namespace ends, and the pair with it
	srv, err := server.NewServer(&server.Options{
		Host: "10.77.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: filepath.Join(t.TempDir(), "nats"), Username: "ada", Password: "lovelace",
		PingInterval: 500 * time.Millisecond, MaxPingsOut: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	a := remote.Address{URL: "nats://" + srv.Addr().String(), User: "ada", Password: "lovelace"}
	s := &site{t: t, dir: t.TempDir(), l: searchtest.New(options()), notes: &words{}}
	s.spec = s.describe()
	want := alone(t, s)
	s.open(a, nil)

	// The worker waits for a line until its namespace has a network.
	c := s.settings()
	c.Address, c.Gated = a, true
	apart := spawnBy(t, c, "unshare", "-n", "sh", "-c", `read line; exec "$0"`, os.Args[0])
	pid := fmt.Sprint(apart.cmd.Process.Pid)
	namespace := func(of string) string {
		link, err := os.Readlink("/proc/" + of + "/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for namespace(pid) == namespace("self") {
		<-tick.C
	}
	run("ip", "link", "set", "there", "netns", pid)
	run("nsenter", "-t", pid, "-n", "ip", "addr", "add", "10.77.0.2/24", "dev", "there")
	run("nsenter", "-t", pid, "-n", "ip", "link", "set", "there", "up")
	_, _ = fmt.Fprintln(apart.stdin)
	s.until("worker in the other namespace", func(w []remote.Worker) bool { return len(w) == 1 && w[0].State == remote.Idle })
	s.worker(func(c *childSettings) { c.Address = a })
	s.until("second worker", func(w []remote.Worker) bool { return len(w) == 2 && w[1].State == remote.Idle })
	got := find(t, s.problem(), s.e, func(n int) {
		switch n {
		case 20:
			run("ip", "link", "set", "here", "down")
		case 80:
			s.until("worker that is lost", func(w []remote.Worker) bool { return w[0].State == remote.Lost })
			run("ip", "link", "set", "here", "up")
			_, _ = fmt.Fprint(apart.stdin, strings.Repeat("\n", 50)) // it finishes what it has
		}
	})
	same(t, got, want)
	s.until("worker that is there again", func(w []remote.Worker) bool { return w[0].State == remote.Idle || w[0].State == remote.Scoring })
}
