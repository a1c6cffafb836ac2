package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// serveNATS starts a NATS server with JetStream.
func serveNATS(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs, o.JetStream, o.StoreDir, o.SyncAlways = "127.0.0.1", server.RANDOM_PORT, true, true, true, t.TempDir(), true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

// keys makes a pair of keys of NATS and returns its public one.
func keys(t *testing.T, make func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := make()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// credentials writes a credentials file of a user of an account, whose token is valid for so long.
func credentials(t *testing.T, path string, account nkeys.KeyPair, valid time.Duration, publish, subscribe []string) {
	t.Helper()
	user, public := keys(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(public)
	claims.Expires = time.Now().Add(valid).Unix()
	claims.Pub.Allow.Add(publish...)
	claims.Sub.Allow.Add(subscribe...)
	token, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	config, err := jwt.FormatUserConfig(token, seed)
	if err == nil {
		err = os.WriteFile(path, config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCredentials runs commands on a server that admits users by tokens: NATS's own credentials files, of a search and of a worker with the rights of
// a worker. Expired ones, those of another operator and none are refused with one line that quotes nothing of them.
func TestCredentials(t *testing.T) {
	m := newTeam(t)
	operator, _ := keys(t, nkeys.CreateOperator)
	account, name := keys(t, nkeys.CreateAccount)
	_, systemName := keys(t, nkeys.CreateAccount)
	claims := jwt.NewAccountClaims(name)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	resolver := &server.MemAccResolver{}
	for public, of := range map[string]*jwt.AccountClaims{name: claims, systemName: jwt.NewAccountClaims(systemName)} {
		token, err := of.Encode(operator)
		if err == nil {
			err = resolver.Store(public, token)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	trusted, err := operatorClaims(operator)
	if err != nil {
		t.Fatal(err)
	}
	s := serveNATS(t, &server.Options{TrustedOperators: []*jwt.OperatorClaims{trusted}, AccountResolver: resolver, SystemAccount: systemName})
	other, _ := keys(t, nkeys.CreateAccount)
	credentials(t, m.path("search.creds"), account, time.Hour, nil, nil)
	credentials(t, m.path("worker.creds"), account, time.Hour, []string{
		"lathe.*.result.*", "lathe.*.failed", "lathe.*.status.*", "lathe.*.file", "lathe.*.product", "$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.workers",
		"$JS.API.CONSUMER.MSG.NEXT.*.workers", "$JS.API.DIRECT.GET.>", "$JS.API.STREAM.MSG.GET.*", "$JS.API.CONSUMER.CREATE.*.*.$O.>", "$JS.ACK.>", "$JS.FC.>",
	}, []string{"lathe.search.*", "lathe.*.drain.*", "_INBOX.>"})
	credentials(t, m.path("expired.creds"), account, -time.Hour, nil, nil)
	credentials(t, m.path("other.creds"), other, time.Hour, nil, nil)
	m.answersTo(s.ClientURL(), []string{"--creds", "search.creds"}, []string{"--creds", "worker.creds"})
	for _, flags := range [][]string{nil, {"--creds", "expired.creds"}, {"--creds", "other.creds"}, {"--creds", "missing.creds"}, {"--creds", "tiny.gguf"}} {
		m.refusedBy(s.ClientURL(), flags)
	}
}

// operatorClaims are the claims of an operator, signed by itself.
func operatorClaims(operator nkeys.KeyPair) (*jwt.OperatorClaims, error) {
	public, err := operator.PublicKey()
	if err != nil {
		return nil, err
	}
	token, err := jwt.NewOperatorClaims(public).Encode(operator)
	if err != nil {
		return nil, err
	}
	return jwt.DecodeOperatorClaims(token)
}

// answersTo runs a search and statistics with workers on a server, with flags for the commands and flags for workers: one that is started by hand and one
// that the command starts. They end as without workers.
func (m *team) answersTo(url string, flags, ofWorkers []string) {
	m.t.Helper()
	text := m.path("cache", "text", "wiki.utf8")
	for name, args := range map[string][]string{
		"search":     {"search", m.model, "--target", "0.7", "--budget", "evals=20", "--seq", "32", "--windows", "4", "--text", text},
		"statistics": {"statistics", m.model, "--seq", "32", "--windows", "4", "--text", text},
	} {
		want := lastLine(m.output(m.command("alone-"+name, args...)))
		worker := exec.CommandContext(m.t.Context(), "lathe", append([]string{"worker", "--nats", url, "--once", "--json", "--files", m.path("files-" + name)}, ofWorkers...)...)
		worker.Dir, worker.Env = m.dir, m.env
		var words bytes.Buffer
		worker.Stderr = &words
		if err := worker.Start(); err != nil {
			m.t.Fatal(err)
		}
		if got := lastLine(m.output(m.command("with-"+name, append(append(args, "--nats", url), flags...)...))); got != want {
			m.t.Errorf("%s: with a worker\n%s\nalone\n%s", name, got, want)
		}
		if err := worker.Wait(); err != nil || !strings.Contains(words.String(), "works for search") {
			m.t.Errorf("%s: the worker: %v: %s", name, err, &words)
		}
		out, said, _ := m.run(m.command("own-"+name, append(append(args, "--nats", url, "--workers", "1"), flags...)...))
		if got := lastLine(strings.TrimSpace(out)); got != want || strings.Contains(said, "done here") {
			m.t.Errorf("%s: with a worker that it starts\n%s\nalone\n%s\n%s", name, got, want, said)
		}
	}
}

// refusedBy checks that neither a worker nor a command is admitted with flags.
func (m *team) refusedBy(url string, flags []string) {
	m.t.Helper()
	for _, args := range [][]string{{"worker", "--nats", url, "--once"}, {"statistics", m.model, "--seq", "32", "--windows", "4", "--text", m.path("cache", "text", "wiki.utf8"), "--workspace", m.path("refused"), "--nats", url}} {
		_, words, status := m.lathe(append(args, flags...)...)
		if status == exitOK || strings.Count(strings.TrimSpace(words), "\n") > 3 || !strings.Contains(words, "NATS server") {
			m.t.Errorf("%v: status %d: %s", flags, status, words)
		}
		if strings.Contains(words, "eyJ") || strings.Contains(words, "SU") && strings.Contains(words, "BEGIN") {
			m.t.Errorf("%v: the words quote the credentials: %s", flags, words)
		}
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// newAuthority makes an authority and writes its certificate.
func newAuthority(t *testing.T, path string) *authority {
	t.Helper()
	a := &authority{t: t, next: 1}
	der, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	writePEM(t, path, "CERTIFICATE", der)
	return a
}

// sign makes a certificate, which signs itself where there is none yet.
func (a *authority) sign(of *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	of.SerialNumber, of.NotBefore, of.NotAfter = big.NewInt(a.next), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	a.next++
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = of, key
	}
	der, err := x509.CreateCertificate(rand.Reader, of, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// issue writes a certificate for a use on loopback, and its key.
func (a *authority) issue(cert, key, name string, use x509.ExtKeyUsage) {
	a.t.Helper()
	der, private := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}})
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, cert, "CERTIFICATE", der)
	writePEM(a.t, key, "PRIVATE KEY", encoded)
}

func writePEM(t *testing.T, path, kind string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestClientCertificates runs commands on a server that admits whoever has a certificate of its authority. Others are refused, and so is a server whose
// certificate is of another authority.
func TestClientCertificates(t *testing.T) {
	m := newTeam(t)
	ca, stranger := newAuthority(t, m.path("ca.pem")), newAuthority(t, m.path("other-ca.pem"))
	ca.issue(m.path("server.pem"), m.path("server.key"), "server", x509.ExtKeyUsageServerAuth)
	ca.issue(m.path("client.pem"), m.path("client.key"), "client", x509.ExtKeyUsageClientAuth)
	stranger.issue(m.path("stranger.pem"), m.path("stranger.key"), "stranger", x509.ExtKeyUsageClientAuth)
	pair, err := tls.LoadX509KeyPair(m.path("server.pem"), m.path("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	s := serveNATS(t, &server.Options{TLS: true, TLSVerify: true, TLSTimeout: 30, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}})
	url := "tls://" + s.Addr().String()
	good := []string{"--nats-ca", "ca.pem", "--nats-cert", "client.pem", "--nats-key", "client.key"}
	m.answersTo(url, good, good)
	for _, flags := range [][]string{
		nil, {"--nats-ca", "ca.pem"}, {"--nats-ca", "ca.pem", "--nats-cert", "stranger.pem", "--nats-key", "stranger.key"}, {"--nats-ca", "other-ca.pem", "--nats-cert", "client.pem", "--nats-key", "client.key"},
		{"--nats-ca", "ca.pem", "--nats-cert", "client.pem"}, {"--nats-ca", "ca.pem", "--nats-cert", "client.pem", "--nats-key", filepath.Join("no", "such.key")},
		{"--nats-ca", "ca.pem", "--nats-cert", "client.pem", "--nats-key", "stranger.key"}, {"--nats-ca", "tiny.gguf", "--nats-cert", "client.pem", "--nats-key", "client.key"},
	} {
		m.refusedBy(url, flags)
	}
}
