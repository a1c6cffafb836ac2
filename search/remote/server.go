package remote

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startWithin is how long a server may take to start.
const startWithin = 30 * time.Second

// A Server is a NATS server with JetStream inside this process. It listens on loopback only, admits two users with random passwords,
// and syncs every message to the disk before it acknowledges it.
type Server struct {
	server  *server.Server
	options server.Options
	search  string
	own     string // password of the search
	workers string // password of workers
}

// The users of a [Server].
const (
	ownUser    = "search"
	workerUser = "worker"
)

// The limits of what a [Server] stores.
const (
	maxServerStore  = 4 << 30
	maxServerMemory = 64 << 20
)

// NewSearchID returns a random identity of a search.
func NewSearchID() string { return randomHex(searchDigits / 2) }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// StartServer starts a server for one search that keeps its streams in the folder dir.
func StartServer(search, dir string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	s := &Server{search: search, own: randomHex(32), workers: randomHex(32)}
	s.options = server.Options{
		ServerName: "lathe-" + search, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, DontListen: false,
		JetStream: true, StoreDir: dir, SyncAlways: true, JetStreamMaxStore: maxServerStore, JetStreamMaxMemory: maxServerMemory,
		MaxPayload: maxPayload, MaxControlLine: 4096,
		Users: []*server.User{
			{Username: ownUser, Password: s.own},
			{Username: workerUser, Password: s.workers, Permissions: workerPermissions(search)},
		},
	}
	return s, s.Start()
}

// maxPayload is the limit of messages.
const maxPayload = 1 << 20

// workerPermissions is what a worker may do: take tasks of one search, report results and its state, and read results.
func workerPermissions(search string) *server.Permissions {
	tasks, results := tasksName(search), resultsName(search)
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			resultSubject(search, ">"), failedSubject(search), statusSubject(search, "*"), fileSubject(search), productSubject(search),
			"$JS.API.STREAM.INFO." + tasks, "$JS.API.STREAM.INFO." + results, "$JS.API.CONSUMER.INFO." + tasks + "." + consumerName,
			"$JS.API.CONSUMER.MSG.NEXT." + tasks + "." + consumerName, "$JS.ACK." + tasks + ".>", "$JS.API.DIRECT.GET." + results + ".>", "$JS.API.STREAM.MSG.GET." + results,
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>", announceSubject(search), drainSubject(search, "*")}},
	}
}

// Start starts the server, again after [Server.Stop]: on the same port, with the same users and what the folder holds.
func (s *Server) Start() error {
	options := s.options
	running, err := server.NewServer(&options)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	running.Start()
	if !running.ReadyForConnections(startWithin) {
		running.Shutdown()
		return fmt.Errorf("%w: it was not ready after %v", ErrServer, startWithin)
	}
	tcp, ok := running.Addr().(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		running.Shutdown()
		return errors.New("remote: the server does not listen on loopback")
	}
	s.server, s.options.Port = running, tcp.Port
	return nil
}

// Stop ends the server. What it stores stays.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// Own is the address for the search itself.
func (s *Server) Own() Address { return s.address(ownUser, s.own) }

// Workers is the address for workers.
func (s *Server) Workers() Address { return s.address(workerUser, s.workers) }

func (s *Server) address(user, password string) Address {
	return Address{URL: "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.options.Port)), User: user, Password: password}
}
