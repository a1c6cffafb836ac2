package sshserver

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
)

func TestPrincipalLines(t *testing.T) {
	key := newKey(t)
	print := strings.TrimPrefix(gossh.FingerprintSHA256(key.PublicKey()), "SHA256:")[:8]
	for _, test := range []struct {
		options, comment string
		role             explorer.Role
		name             string
		noPTY            bool
		err              string
	}{
		{"", "ann@laptop", explorer.RoleViewer, "ann@laptop", false, ""},
		{"", "", explorer.RoleViewer, "key " + print, false, ""},
		{`lathe-role="owner"`, "ann", explorer.RoleOwner, "ann", false, ""},
		{`LATHE-ROLE="editor",lathe-name="Ann, \"the\" first"`, "x", explorer.RoleEditor, `Ann, "the" first`, false, ""},
		{`environment="LATHE_ROLE=editor",environment="LATHE_NAME=Ann"`, "x", explorer.RoleEditor, "Ann", false, ""},
		{`restrict,lathe-role="viewer"`, "a", explorer.RoleViewer, "a", true, ""},
		{"restrict,pty", "a", explorer.RoleViewer, "a", false, ""},
		{"no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc", "a", explorer.RoleViewer, "a", true, ""},
		{"", "evil\x1b[2J\u202ename", explorer.RoleViewer, "evil [2Jname", false, ""},
		{`lathe-role="root"`, "a", 0, "", false, "role"},
		{`lathe-role=owner`, "a", 0, "", false, "quotes"},
		{`lathe-role`, "a", 0, "", false, "role"},
		{`lathe-name=" "`, "a", 0, "", false, "empty"},
		{`lathe-role="owner",lathe-role="viewer"`, "a", 0, "", false, "twice"},
		{`environment="LATHE_ROLE=owner",lathe-role="viewer"`, "a", 0, "", false, "twice"},
		{`environment="LD_PRELOAD=x"`, "a", 0, "", false, "environment"},
		{`command="true"`, "a", 0, "", false, "not supported"},
		{"cert-authority", "a", 0, "", false, "not supported"},
		{`from="*.example.org"`, "a", 0, "", false, "from"},
		{`expiry-time="soon"`, "a", 0, "", false, "expiry-time"},
		{`no-pty="yes"`, "a", 0, "", false, "no value"},
	} {
		h, err := parsePrincipal([]byte(strings.TrimSpace(line(test.options, key, test.comment))), explorer.RoleViewer)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.options, err, test.err)
			}
			continue
		}
		if err != nil || h.role != test.role || h.name != test.name || h.noPTY != test.noPTY {
			t.Errorf("%s %q: %v %q %v, %v", test.options, test.comment, h.role, h.name, h.noPTY, err)
		}
	}
}

func TestWeakAndForeignKeysAreRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("this Go makes no weak keys to test with: %v", err)
	}
	weakKey, err := gossh.NewPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsePrincipal(gossh.MarshalAuthorizedKey(weakKey), 0); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Errorf("1024 bits: %v", err)
	}
	signer := newKey(t)
	cert := &gossh.Certificate{Key: newKey(t).PublicKey(), CertType: gossh.UserCert, ValidBefore: gossh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	if _, err := parsePrincipal(gossh.MarshalAuthorizedKey(cert), 0); err == nil || !strings.Contains(err.Error(), "certificates") {
		t.Errorf("certificate: %v", err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := gossh.NewPublicKey(&curve.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsePrincipal(gossh.MarshalAuthorizedKey(good), 0); err != nil {
		t.Errorf("ECDSA: %v", err)
	}
}

func TestPrincipalsAreAdmittedByAddressAndTime(t *testing.T) {
	key := newKey(t)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		options, from string
		want          bool
	}{
		{"", "203.0.113.9", true},
		{`from="10.0.0.0/8"`, "10.1.2.3", true},
		{`from="10.0.0.0/8"`, "::ffff:10.1.2.3", true},
		{`from="10.0.0.0/8"`, "11.1.2.3", false},
		{`from="10.0.0.0/8,!10.1.2.3"`, "10.1.2.3", false},
		{`from="!10.1.2.3,10.0.0.0/8"`, "10.1.2.3", false},
		{`from="!10.1.2.3"`, "10.9.9.9", false},
		{`from="2001:db8::/32, 192.0.2.7"`, "2001:db8::1", true},
		{`from="2001:db8::/32, 192.0.2.7"`, "192.0.2.7", true},
		{`expiry-time="20261125Z"`, "10.1.2.3", true},
		{`expiry-time="20261124Z"`, "10.1.2.3", false},
		{`expiry-time="202611241200Z"`, "10.1.2.3", false},
		{`expiry-time="20261124120001Z"`, "10.1.2.3", true},
	} {
		h, err := parsePrincipal([]byte(strings.TrimSpace(line(test.options, key, "a"))), 0)
		if err != nil {
			t.Errorf("%s: %v", test.options, err)
			continue
		}
		if got := h.admits(&net.TCPAddr{IP: net.ParseIP(test.from)}, now); got != test.want {
			t.Errorf("%s from %s: %v", test.options, test.from, got)
		}
	}
	h, err := parsePrincipal([]byte(strings.TrimSpace(line(`from="10.0.0.0/8"`, key, "a"))), 0)
	if err != nil || h.admits(&net.UnixAddr{Name: "x"}, now) {
		t.Errorf("no address at all: %v", err)
	}
}

func TestRollTakesGoodLinesAndReportsBadOnes(t *testing.T) {
	a, b := newKey(t), newKey(t)
	text := "# team\n\n  " + line(`lathe-role="owner"`, a, "ann") + "garbage\r\n" + line(`command="x"`, b, "bob") + line("", a, "second line of ann's key") +
		"ssh-ed25519 AAAA broken\n" + strings.TrimSpace(line("", b, "bob"))
	r := parseAllowlist([]byte(text), explorer.RoleViewer)
	if len(r.problems) != 4 || !strings.HasPrefix(r.problems[0], "line 4 ") {
		t.Errorf("problems: %q", r.problems)
	}
	if h, ok := r.find(a.PublicKey()); !ok || h.role != explorer.RoleOwner {
		t.Errorf("the first line of a key does not count: %v", h.role)
	}
	if h, ok := r.find(b.PublicKey()); !ok || h.name != "bob" {
		t.Errorf("a last line without newline: %v %v", h, ok)
	}
	if _, ok := r.find(newKey(t).PublicKey()); ok {
		t.Error("found a stranger")
	}
	if _, ok := r.find(nil); ok {
		t.Error("found nobody")
	}
}

func TestKeyringReadsAnewAndKeepsWhatDidNotChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	a, b := newKey(t), newKey(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(line("", a, "a"))
	k := &keyring{file: path}
	first, err := k.load()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.load(); err != nil || again != first {
		t.Errorf("parsed again: %v", err)
	}
	write(line("", b, "b"))
	if next, err := k.load(); err != nil || len(next.principals) != 1 || next.principals[0].name != "b" {
		t.Errorf("not read again: %v", err)
	}
	write(strings.Repeat("#", maxKeyFile+1))
	if _, err := k.load(); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("too large: %v", err)
	}
}

func FuzzParseRoll(f *testing.F) {
	key := newKey(f)
	f.Add([]byte(line(`lathe-role="owner",from="10.0.0.0/8",expiry-time="20270101Z"`, key, "ann")))
	f.Add([]byte(line(`environment="LATHE_NAME=a\"b",restrict,pty`, key, "")))
	f.Add([]byte("a=\"b ,\"\n\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, h := range parseAllowlist(data, explorer.RoleViewer).principals {
			if h.key == nil || h.name == "" || h.name != explorer.CleanName(h.name) || h.role < explorer.RoleViewer || h.role > explorer.RoleOwner {
				t.Errorf("bad principal %+v", h)
			}
		}
	})
}

func TestAllowlistWithAByteOrderMarkAndRepeatedKeys(t *testing.T) {
	first, second := publicLine(t), publicLine(t)
	r := parseAllowlist([]byte("\ufefflathe-role=\"owner\" "+first+" ada\r\n"+second+" bob\r\nlathe-role=\"viewer\" "+first+" again\n"), explorer.RoleViewer)
	if len(r.principals) != 2 || r.principals[0].role != explorer.RoleOwner || r.principals[0].name != "ada" {
		t.Errorf("%+v", r.principals)
	}
	if len(r.problems) != 1 || !strings.Contains(r.problems[0], "line 3") || !strings.Contains(r.problems[0], "line 1") {
		t.Errorf("problems %q", r.problems)
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if r := parseAllowlist([]byte(mark+"s\x00s\x00h\x00"), explorer.RoleViewer); len(r.principals) != 0 || len(r.problems) != 1 || !strings.Contains(r.problems[0], "UTF-16") {
			t.Errorf("%q: %+v, problems %q", mark, r.principals, r.problems)
		}
	}
}

// publicLine returns a new key as in an authorized_keys file, without a comment.
func publicLine(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := gossh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(key)))
}
