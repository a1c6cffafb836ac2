package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrServer is wrapped when there is no NATS server that may be used at an address.
var ErrServer = errors.New("remote: NATS server")

// An Address is where a NATS server is, and what it is sent to prove who connects.
type Address struct {
	URL      string // nats://HOST:PORT or tls://HOST:PORT, several separated by commas
	Creds    string // credentials file of NATS; "" is none
	User     string // with Password, for a server with users
	Password string
	CA       string // certificates that the server's is checked with; "" is those of the system
	Cert     string // certificate and key of this side; "" is none
	Key      string
}

// Check reports an address that cannot be one, or that sends no proof of identity to another machine.
func (a Address) Check() error {
	local := true
	for part := range strings.SplitSeq(a.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
			return fmt.Errorf("%w %q: not nats://HOST:PORT or tls://HOST:PORT", ErrServer, redacted(part))
		}
		switch u.Scheme {
		case "nats", "tls":
		default:
			return fmt.Errorf("%w %q: the scheme is neither nats nor tls", ErrServer, redacted(part))
		}
		if _, has := u.User.Password(); has {
			return fmt.Errorf("%w %q: a password does not belong into the address, which is shown and stored: use a credentials file or $LATHE_NATS_PASSWORD", ErrServer, redacted(part))
		}
		local = local && isLoopback(u.Hostname())
	}
	if (a.Cert == "") != (a.Key == "") {
		return fmt.Errorf("%w %s: a certificate and its key belong together", ErrServer, a.URL)
	}
	if !local && a.Creds == "" && a.Password == "" && a.Cert == "" {
		return fmt.Errorf("%w %s: it is not on this machine, and nothing proves who connects: give a credentials file, a certificate, or $LATHE_NATS_USER and $LATHE_NATS_PASSWORD", ErrServer, a.URL)
	}
	return nil
}

// redacted returns an address without its user information.
func redacted(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		if scheme := strings.Index(text, "://"); scheme >= 0 && scheme < at {
			return text[:scheme+3] + "…" + text[at:]
		}
		return "…" + text[at:]
	}
	return text
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// connectWithin is how long the first connection may take.
const connectWithin = 10 * time.Second

// Dial connects to a server. Once connected, the connection is made again for as long as it takes. A server on another machine that
// lets in everybody is refused. report, unless nil, is called with a line when the connection is lost or there again, and with what the server
// does not permit.
func Dial(ctx context.Context, a Address, name string, report func(text string)) (*nats.Conn, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	if report == nil {
		report = func(string) {}
	}
	var verifies atomic.Bool // the server asks for a certificate of this side
	options := []nats.Option{
		nats.Name(name), nats.Timeout(connectWithin), nats.MaxReconnects(-1), nats.ReconnectWait(500 * time.Millisecond), nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.DisconnectErrHandler(func(*nats.Conn, error) {
			report("the connection to the NATS server is lost: the work continues when it is there again")
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) {
			if mayUse(conn.ConnectedUrl(), conn.AuthRequired() || verifies.Load()) != nil {
				conn.Close() // one of several servers lets in everybody
				return
			}
			report("the NATS server is there again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				report(line(err.Error()))
			}
		}),
		nats.NoCallbacksAfterClientClose(), nats.SetCustomDialer(&net.Dialer{Timeout: connectWithin}),
	}
	if a.Creds != "" {
		options = append(options, nats.UserCredentials(a.Creds))
	}
	if a.Password != "" {
		options = append(options, nats.UserInfo(a.User, a.Password))
	}
	if a.Cert != "" {
		cert, err := tls.LoadX509KeyPair(a.Cert, a.Key)
		if err != nil {
			return nil, fmt.Errorf("%w %s: the certificate %s: %w", ErrServer, a.URL, a.Cert, err)
		}
		options = append(options, nats.Secure(&tls.Config{
			MinVersion: tls.VersionTLS12,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				verifies.Store(true)
				return &cert, nil
			},
		}))
	}
	if a.CA != "" { // after the certificate, whose settings it adds to
		options = append(options, nats.RootCAs(a.CA))
	}
	type dialled struct {
		conn *nats.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		conn, err := nats.Connect(a.URL, options...)
		done <- dialled{conn, err}
	}()
	var got dialled
	select {
	case got = <-done:
	case <-ctx.Done():
		go func() {
			if late := <-done; late.err == nil {
				late.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
	if got.err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrServer, a.URL, got.err)
	}
	if err := mayUse(got.conn.ConnectedUrl(), got.conn.AuthRequired() || verifies.Load()); err != nil {
		got.conn.Close()
		return nil, err
	}
	return got.conn, nil
}

// mayUse refuses a server on another machine that lets in everybody.
func mayUse(address string, authenticates bool) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("%w %s: not an address", ErrServer, redacted(address))
	}
	if !isLoopback(u.Hostname()) && !authenticates {
		return fmt.Errorf("%w %s: it lets in everybody, and is not on this machine: set up users, credentials or the verification of certificates", ErrServer, u.Redacted())
	}
	return nil
}

// streams opens JetStream on a connection. A server that stops between storing a message and confirming it never confirms it, also where the
// connection is to another server: within is how long a confirmation, or another reply, is waited for.
func streams(conn *nats.Conn, within time.Duration) (jetstream.JetStream, error) {
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(within), jetstream.WithPublishAsyncTimeout(within))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	return js, nil
}
