package remote

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestAnonymousServers checks which servers may be used after the connection is made.
func TestAnonymousServers(t *testing.T) {
	for _, test := range []struct {
		url           string
		authenticates bool
		ok            bool
	}{
		{"nats://127.0.0.1:4222", false, true},
		{"nats://localhost:4222", false, true},
		{"nats://10.1.2.3:4222", false, false},
		{"tls://nats.example.org:4222", false, false},
		{"tls://nats.example.org:4222", true, true},
		{"nats://127.0.0.1.example.org:4222", false, false},
	} {
		if err := mayUse(test.url, test.authenticates); (err == nil) != test.ok {
			t.Errorf("%s, authenticates %v: %v", test.url, test.authenticates, err)
		}
	}
}

// startServer starts a server of a search.
func startServer(t *testing.T) *Server {
	t.Helper()
	s, err := StartServer("0123456789abcdef", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// TestServerAdmits connects to the server inside the program: it is on loopback only, wants a password, has another one each time, and its
// passwords are in no address.
func TestServerAdmits(t *testing.T) {
	s, other := startServer(t), startServer(t)
	for name, a := range map[string]Address{
		"nobody": {URL: s.Own().URL}, "a wrong password": {URL: s.Own().URL, User: ownUser, Password: "x"}, "the password of another search": {URL: s.Own().URL, User: ownUser, Password: other.own},
		"the password of workers": {URL: s.Own().URL, User: ownUser, Password: s.workers},
	} {
		if conn, err := Dial(t.Context(), a, "test", nil); err == nil {
			conn.Close()
			t.Errorf("%s is admitted", name)
		} else if strings.Contains(err.Error(), a.Password) && a.Password != "" && a.Password != "x" {
			t.Errorf("%s: the error quotes the password: %v", name, err)
		}
	}
	if host, _, err := net.SplitHostPort(s.server.Addr().String()); err != nil || host != "127.0.0.1" {
		t.Errorf("it listens on %s: %v", host, err)
	}
	if !s.options.SyncAlways {
		t.Error("it does not sync messages before it acknowledges them")
	}
	if len(s.own) != 64 || s.own == s.workers || strings.Contains(s.Own().URL+s.Workers().URL, s.own[:8]) {
		t.Error("passwords are short, equal or in the address")
	}
}

// TestWorkersAreConfined tries what a worker may not do: hand out tasks, announce or drain, hear other workers, and change streams.
func TestWorkersAreConfined(t *testing.T) {
	s := startServer(t)
	refused := make(chan error, 100)
	conn, err := nats.Connect(s.Workers().URL, nats.UserInfo(workerUser, s.workers), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	search := "0123456789abcdef"
	for _, subject := range []string{
		taskSubject(search), announceSubject(search), drainSubject(search, "w"), resultSubject("fedcba9876543210", "k"), statusSubject("fedcba9876543210", "w"), productSubject("fedcba9876543210"),
		"$JS.API.STREAM.CREATE." + tasksName(search), "$JS.API.STREAM.PURGE." + tasksName(search), "$JS.API.STREAM.DELETE." + resultsName(search),
		"$JS.API.CONSUMER.DELETE." + tasksName(search) + "." + consumerName, "$JS.API.STREAM.MSG.DELETE." + tasksName(search), "$SYS.REQ.SERVER.PING",
	} {
		if err := conn.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), fmt.Sprintf("%q", subject)) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	for _, subject := range []string{">", "lathe.>", resultSubject(search, "*"), taskSubject(search), productSubject(search), "$JS.EVENT.>", announceSubject("*")} {
		if _, err := conn.Subscribe(subject, func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
		if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", subject, err)
		}
	}
}

// TestFileRequests asks a search for files that it does not offer, and with messages that are no requests. Nothing is read.
func TestFileRequests(t *testing.T) {
	s := startServer(t)
	conn, err := Dial(t.Context(), s.Own(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	path, f, _ := content(t)
	supply := newSupply(js, "0123456789abcdef", 1)
	supply.add(f, path)
	for want, request := range map[string]string{
		"no such file":    `{"SHA256":"../../etc/passwd","Part":0}`,
		"no such part":    fmt.Sprintf(`{"SHA256":%q,"Part":3}`, f.SHA256),
		"invalid message": `x`,
		"more than":       strings.Repeat("x", maxStatus+1),
	} {
		if err := supply.provide(t.Context(), []byte(request)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v", request, err)
		}
	}
	if err := supply.provide(t.Context(), []byte(fmt.Sprintf(`{"SHA256":%q,"Part":-1}`, f.SHA256))); err == nil {
		t.Error("part -1 is provided")
	}
	sub, err := conn.Subscribe(fileSubject("0123456789abcdef"), func(m *nats.Msg) { supply.answer(t.Context(), m) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	files := Files{Dir: t.TempDir()}
	got, err := files.get(t.Context(), conn, js, "0123456789abcdef", f, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := HashFile(t.Context(), got); err != nil || found != f {
		t.Errorf("got %v: %v", found, err)
	}
	if len(supply.there) != 3 {
		t.Errorf("%d parts were sent", len(supply.there))
	}
	if _, err := conn.Request(fileSubject("0123456789abcdef"), []byte(`x`), time.Minute); err != nil {
		t.Errorf("a message that is no request: %v", err)
	}
}
