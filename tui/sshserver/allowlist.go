package sshserver

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
)

// Bounds of an authorized_keys file.
const (
	maxKeyFile = 1 << 20 // bytes
	minRSABits = 2048
)

// A principal is a person who may log in with a key: one line of an authorized_keys file.
//
// A line has the format of sshd(8): options, key type, key, comment. The options are
//
//	lathe-role="viewer|editor|owner"   rights of the principal
//	lathe-name="ann"                   name that others see (default: the comment, else the beginning of the fingerprint)
//	environment="LATHE_ROLE=editor"    the same for a file that is shared with sshd,
//	environment="LATHE_NAME=ann"       which skips lines with unknown options
//	from="10.0.0.0/8,!10.0.0.7"        allowed addresses and networks
//	expiry-time="20270131[1200[30]][Z]" end of validity; local time without Z
//	no-pty, restrict                   commands only (restrict with pty: terminals too)
//	no-port-forwarding, no-agent-forwarding, no-x11-forwarding, no-user-rc, pty   implied for every session
//
// A line with any other option, such as cert-authority, is rejected, because an unknown option may be a restriction. So is a
// line with an invalid value, an RSA key below 2048 bits, or a certificate.
type principal struct {
	key         gossh.PublicKey
	fingerprint string
	name        string
	role        explorer.Role
	from        []addressRule
	expires     time.Time // zero: never
	noPTY       bool
}

// addressRule admits or excludes a network.
type addressRule struct {
	network netip.Prefix
	exclude bool
}

// admits reports whether the principal may log in from an address now.
func (p principal) admits(from net.Addr, now time.Time) bool {
	if !p.expires.IsZero() && !now.Before(p.expires) {
		return false
	}
	if len(p.from) == 0 {
		return true
	}
	ip := addressOf(from)
	if !ip.IsValid() {
		return false
	}
	in := false
	for _, r := range p.from {
		if r.network.Contains(ip) {
			if r.exclude {
				return false
			}
			in = true
		}
	}
	return in
}

// addressOf returns the IP address of a network address, the zero Addr if it has none.
func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// parsePrincipal parses a line that is neither empty nor a comment.
func parsePrincipal(line []byte, role explorer.Role) (principal, error) {
	key, comment, options, _, err := gossh.ParseAuthorizedKey(line)
	if err != nil {
		return principal{}, errors.New("not an authorized_keys line")
	}
	if _, ok := key.(*gossh.Certificate); ok {
		return principal{}, errors.New("certificates are not supported")
	}
	if c, ok := key.(gossh.CryptoPublicKey); ok {
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			return principal{}, fmt.Errorf("an RSA key of %d bits is too weak", r.N.BitLen())
		}
	}
	if key.Type() == "ssh-dss" {
		return principal{}, errors.New("DSA keys are too weak")
	}
	p := principal{key: key, fingerprint: gossh.FingerprintSHA256(key), role: role, name: comment}
	seen := map[string]bool{}
	for _, o := range options {
		name, err := p.apply(o)
		if err != nil {
			return principal{}, err
		}
		if name != "from" && seen[name] {
			return principal{}, fmt.Errorf("option %s is given twice", name)
		}
		seen[name] = true
	}
	if seen["restrict"] && !seen["pty"] {
		p.noPTY = true
	}
	if p.name = explorer.CleanName(p.name); p.name == "" {
		p.name = "key " + strings.TrimPrefix(p.fingerprint, "SHA256:")[:8]
	}
	return p, nil
}

// apply applies one option and returns the name of what it sets.
func (p *principal) apply(option string) (string, error) {
	name, value, valued := strings.Cut(option, "=")
	name = strings.ToLower(name)
	if valued {
		if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
			return "", fmt.Errorf("option %s: the value must be in quotes", name)
		}
		value = strings.ReplaceAll(value[1:len(value)-1], `\"`, `"`)
	}
	switch name {
	case "restrict", "pty", "no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc", "no-pty":
		if valued {
			return "", fmt.Errorf("option %s takes no value", name)
		}
		p.noPTY = p.noPTY || name == "no-pty"
		return name, nil
	case "environment":
		variable, setting, _ := strings.Cut(value, "=")
		switch variable {
		case "LATHE_ROLE":
			return p.apply(`lathe-role="` + setting + `"`)
		case "LATHE_NAME":
			return p.apply(`lathe-name="` + setting + `"`)
		}
		return "", fmt.Errorf("environment variable %.40q is not LATHE_ROLE or LATHE_NAME", variable)
	case "lathe-role":
		for _, r := range []explorer.Role{explorer.RoleViewer, explorer.RoleEditor, explorer.RoleOwner} {
			if value == r.String() {
				p.role = r
				return name, nil
			}
		}
		return "", fmt.Errorf("role %.40q is not viewer, editor or owner", value)
	case "lathe-name":
		if explorer.CleanName(value) == "" {
			return "", errors.New("lathe-name is empty")
		}
		p.name = value
		return name, nil
	case "from":
		for _, text := range strings.Split(value, ",") {
			rule, err := parseAddressRule(text)
			if err != nil {
				return "", err
			}
			p.from = append(p.from, rule)
		}
		return name, nil
	case "expiry-time":
		end, err := parseExpiry(value)
		p.expires = end
		return name, err
	}
	return "", fmt.Errorf("option %.40q is not supported", name)
}

func parseAddressRule(text string) (addressRule, error) {
	text = strings.TrimSpace(text)
	address, exclude := strings.CutPrefix(text, "!")
	if network, err := netip.ParsePrefix(address); err == nil {
		return addressRule{network.Masked(), exclude}, nil
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return addressRule{}, fmt.Errorf("from: %.60q is not an address or a network", text)
	}
	ip = ip.Unmap()
	return addressRule{netip.PrefixFrom(ip, ip.BitLen()), exclude}, nil
}

func parseExpiry(text string) (time.Time, error) {
	local, utc := strings.CutSuffix(text, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(local) == len(layout) {
			if t, err := time.ParseInLocation(layout, local, zone); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("expiry-time: %.40q is not YYYYMMDD[HHMM[SS]][Z]", text)
}

// An allowlist is the content of an authorized_keys file: who may log in.
type allowlist struct {
	principals []principal
	problems   []string // rejected lines, with the reason
	digest     [sha256.Size]byte
}

func parseAllowlist(data []byte, role explorer.Role) *allowlist {
	r := &allowlist{digest: sha256.Sum256(data)}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		r.problems = append(r.problems, "the file is UTF-16, not UTF-8: no key is read")
		return r
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // a byte order mark, as some editors write
	number := 0
	lines := make(map[string]int) // by the fingerprint of their key
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		p, err := parsePrincipal(line, role)
		if err != nil {
			r.problems = append(r.problems, fmt.Sprintf("line %d is rejected: %v", number, err))
			continue
		}
		if first := lines[p.fingerprint]; first > 0 {
			r.problems = append(r.problems, fmt.Sprintf("line %d is without effect: it has the key of line %d", number, first))
			continue
		}
		lines[p.fingerprint] = number
		r.principals = append(r.principals, p)
	}
	return r
}

// find returns the first principal with a key, as sshd does.
func (r *allowlist) find(key gossh.PublicKey) (principal, bool) {
	if key == nil {
		return principal{}, false
	}
	want := key.Marshal()
	for _, p := range r.principals {
		if bytes.Equal(want, p.key.Marshal()) {
			return p, true
		}
	}
	return principal{}, false
}

// keyring reads the allowlist from its files.
type keyring struct {
	file string   // authorized_keys
	own  []string // public key files of owners, if there is no authorized_keys file
	role explorer.Role

	mu   sync.Mutex
	last *allowlist // what was parsed last, to parse an unchanged file once
}

// load reads the files. After an error nobody may log in.
func (k *keyring) load() (*allowlist, error) {
	data, role := []byte(nil), k.role
	if k.file != "" {
		text, err := readKeyFile(k.file)
		if err != nil {
			return nil, err
		}
		data = text
	} else {
		role = explorer.RoleOwner
		for _, path := range k.own {
			text, err := readKeyFile(path)
			if err != nil {
				return nil, err
			}
			data = append(append(data, text...), '\n')
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last != nil && k.last.digest == sha256.Sum256(data) {
		return k.last, nil
	}
	k.last = parseAllowlist(data, role)
	return k.last, nil
}

// readKeyFile reads a key file, which must be a regular file that only its owner can write to.
func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("authorized keys: %s is not a regular file", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("authorized keys: %s is writable by others: run chmod go-w %[1]s", path)
	case info.Size() > maxKeyFile:
		return nil, fmt.Errorf("authorized keys: %s is larger than %d bytes", path, maxKeyFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	return data, nil
}

// UserKeys returns the public key files of the user who runs the process (~/.ssh/id_*.pub).
func UserKeys() ([]string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(home, ".ssh", "id_*.pub"))
}
