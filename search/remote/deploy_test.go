package remote_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// certificate writes a certificate for loopback, which signs itself, and its key.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeployedServer starts a server with the configuration of the deployment, with other paths and another port, and runs a search with a
// worker that has only what the server sends it. Both users may do all that they need.
func TestDeployedServer(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	t.Setenv("SEARCH_PASSWORD", "of-searches")
	t.Setenv("WORKER_PASSWORD", "of-workers")
	text, err := os.ReadFile("deploy/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("/etc/nats", dir, "/var/lib/nats", filepath.Join(dir, "store"), "0.0.0.0:4222", "127.0.0.1:-1", "200GB", "1GB").Replace(string(text))
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.NoLog, o.NoSigs = true, true
	if !o.SyncAlways || o.TLSConfig == nil {
		t.Errorf("sync always: %v, TLS: %v", o.SyncAlways, o.TLSConfig != nil)
	}
	srv, err := server.NewServer(o)
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
	address := func(user, password string) remote.Address {
		return remote.Address{URL: "tls://" + srv.Addr().String(), User: user, Password: password, CA: filepath.Join(dir, "cert.pem")}
	}
	if conn, err := remote.Dial(t.Context(), remote.Address{URL: "tls://" + srv.Addr().String(), User: "search", Password: "of-searches"}, "test", nil); err == nil {
		conn.Close()
		t.Error("a certificate that nobody knows is accepted")
	}
	s := &site{t: t, dir: dir, l: searchtest.New(options()), notes: &words{}}
	s.spec = s.describe()
	want := alone(t, s)
	s.open(address("search", "of-searches"), func(o *remote.Options) { o.Own, o.Dir = "", filepath.Join(dir, "products") })
	p := s.worker(func(c *childSettings) { c.Address, c.Shared = address("worker", "of-workers"), nil })
	same(t, find(t, s.problem(), s.e, nil), want)
	work := &worksite{site: s}
	work.hand(nil)
	if len(work.left) > 0 {
		t.Errorf("no worker could do %v: %s", work.left, s.notes)
	}
	for _, f := range []remote.File{s.spec.Model, s.spec.Text} {
		if got, err := remote.HashFile(t.Context(), filepath.Join(dir, "files", f.SHA256)); err != nil || got != f {
			t.Errorf("file of the worker: %v, %v", got, err)
		}
	}
	if err := s.e.Drain("w1"); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("status %d: %s", code, p.words)
	}
}

// TestSlurmScript checks the syntax of the job script.
func TestSlurmScript(t *testing.T) {
	if out, err := exec.Command("bash", "-n", "deploy/slurm.sh").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
