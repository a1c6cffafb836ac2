package remote_test

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// freePort returns a port on loopback that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// cluster starts three servers that replicate each other's streams.
func cluster(t *testing.T) []*server.Server {
	t.Helper()
	var out []*server.Server
	for tries := 1; out == nil; tries++ {
		if out = startCluster(t); out == nil && tries == 3 {
			t.Fatal("the servers do not start")
		}
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(2 * time.Minute); ; {
		for _, s := range out {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return out
			}
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the servers elect no leader")
		}
	}
}

// startCluster starts three servers, or returns nil where another process took one of their ports in between.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		ports = append(ports, freePort(t))
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[len(ports)-1])})
	}
	var out []*server.Server
	for i := range 3 {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("s%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: filepath.Join(t.TempDir(), "nats"),
			Cluster: server.ClusterOpts{Name: "three", Host: "127.0.0.1", Port: ports[i]}, Routes: routes, Username: "ada", Password: "lovelace",
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		out = append(out, s)
	}
	for _, s := range out {
		if !s.ReadyForConnections(20 * time.Second) {
			for _, s := range out {
				s.Shutdown()
			}
			return nil
		}
	}
	return out
}

// TestClusterLosesAServer runs a search on a cluster of three servers and shuts down the one that leads its tasks.
func TestClusterLosesAServer(t *testing.T) {
	servers := cluster(t)
	s := &site{t: t, dir: t.TempDir(), l: searchtest.New(options()), notes: &words{}}
	s.spec = s.describe()
	want := alone(t, s)
	var urls []string
	for _, srv := range servers {
		urls = append(urls, srv.ClientURL())
	}
	a := remote.Address{URL: strings.Join(urls, ","), User: "ada", Password: "lovelace"}
	s.open(a, nil)
	for range 2 {
		s.worker(func(c *childSettings) { c.Address = a })
	}
	got := find(t, s.problem(), s.e, func(n int) {
		if n != 60 {
			return
		}
		_, js := streamsOf(t, a)
		stream, err := js.Stream(t.Context(), "lathe-"+s.spec.Search+"-tasks")
		if err != nil {
			t.Fatal(err)
		}
		info := stream.CachedInfo()
		if info.Config.Replicas != 3 {
			t.Errorf("the tasks have %d replicas", info.Config.Replicas)
		}
		for _, srv := range servers {
			if srv.Name() == info.Cluster.Leader {
				srv.Shutdown()
				srv.WaitForShutdown()
				return
			}
		}
		t.Errorf("no leader among the servers: %+v", info.Cluster)
	})
	same(t, got, want)
}

// TestUnconfirmedResults has the server store results without confirming them for a while, as one does that stops in between: the workers
// publish them again, and go on.
func TestUnconfirmedResults(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	conn, js := streamsOf(t, s.server.Own())
	confirm := func(yes bool) {
		stream, err := js.Stream(t.Context(), "lathe-"+s.spec.Search+"-results")
		if err != nil {
			t.Error(err)
			return
		}
		c := stream.CachedInfo().Config
		c.NoAck = !yes
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	again, err := conn.SubscribeSync("lathe." + s.spec.Search + ".result.*")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.worker(func(c *childSettings) { c.Timing.Stored = 300 * time.Millisecond })
	}
	confirmed := make(chan struct{})
	got := find(t, s.problem(), s.e, func(n int) {
		if n != 30 {
			return
		}
		confirm(false)
		go func() {
			defer close(confirmed)
			defer confirm(true)
			seen := map[string]bool{}
			for {
				m, err := again.NextMsgWithContext(t.Context())
				if err != nil {
					t.Errorf("no result was published twice: %v", err)
					return
				}
				if seen[m.Subject] {
					return
				}
				seen[m.Subject] = true
			}
		}()
	})
	<-confirmed
	same(t, got, want)
}
