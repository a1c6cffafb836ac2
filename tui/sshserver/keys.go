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

// A holder is who may log in with a key: one line of an authorized_keys file.
//
// A line is in the form of sshd(8): options, key type, key, comment. The options it may have are
//
//	lathe-role="viewer|editor|owner"   what the holder may do
//	lathe-name="ann"                   the name others see; without it the comment, else the fingerprint's beginning
//	environment="LATHE_ROLE=editor"    the same in a form that sshd's own files may have, for a file shared with it;
//	environment="LATHE_NAME=ann"       sshd skips a line with an option it does not know
//	from="10.0.0.0/8,!10.0.0.7"        addresses and networks to come from
//	expiry-time="20270131[1200[30]][Z]" when it ends; local time without Z
//	no-pty, restrict                   commands only (restrict with pty: terminals too)
//	no-port-forwarding, no-agent-forwarding, no-x11-forwarding, no-user-rc, pty   true of every session anyway
//
// A line with any other option, a cert-authority line among them, lets nobody in: an option that is not understood may
// have been meant as a restriction. So does a line whose values do not parse, an RSA key below 2048 bits, and a
// certificate.
type holder struct {
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

// admits reports whether the holder may come from an address now.
func (h holder) admits(from net.Addr, now time.Time) bool {
	if !h.expires.IsZero() && !now.Before(h.expires) {
		return false
	}
	if len(h.from) == 0 {
		return true
	}
	ip := addressOf(from)
	if !ip.IsValid() {
		return false
	}
	in := false
	for _, r := range h.from {
		if r.network.Contains(ip) {
			if r.exclude {
				return false
			}
			in = true
		}
	}
	return in
}

// addressOf is the IP address of a network address; the zero Addr where it has none.
func addressOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// parseHolder reads one line that is neither empty nor a comment.
func parseHolder(line []byte, role explorer.Role) (holder, error) {
	key, comment, options, _, err := gossh.ParseAuthorizedKey(line)
	if err != nil {
		return holder{}, errors.New("not an authorized_keys line")
	}
	if _, ok := key.(*gossh.Certificate); ok {
		return holder{}, errors.New("certificates are not supported")
	}
	if c, ok := key.(gossh.CryptoPublicKey); ok {
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			return holder{}, fmt.Errorf("an RSA key of %d bits is too weak", r.N.BitLen())
		}
	}
	if key.Type() == "ssh-dss" {
		return holder{}, errors.New("DSA keys are too weak")
	}
	h := holder{key: key, fingerprint: gossh.FingerprintSHA256(key), role: role, name: comment}
	seen := map[string]bool{}
	for _, o := range options {
		name, err := h.apply(o)
		if err != nil {
			return holder{}, err
		}
		if name != "from" && seen[name] {
			return holder{}, fmt.Errorf("option %s is there twice", name)
		}
		seen[name] = true
	}
	if seen["restrict"] && !seen["pty"] {
		h.noPTY = true
	}
	if h.name = explorer.CleanName(h.name); h.name == "" {
		h.name = "key " + strings.TrimPrefix(h.fingerprint, "SHA256:")[:8]
	}
	return h, nil
}

// apply takes in one option and returns what it sets.
func (h *holder) apply(option string) (string, error) {
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
		h.noPTY = h.noPTY || name == "no-pty"
		return name, nil
	case "environment":
		variable, setting, _ := strings.Cut(value, "=")
		switch variable {
		case "LATHE_ROLE":
			return h.apply(`lathe-role="` + setting + `"`)
		case "LATHE_NAME":
			return h.apply(`lathe-name="` + setting + `"`)
		}
		return "", fmt.Errorf("environment variable %.40q is not LATHE_ROLE or LATHE_NAME", variable)
	case "lathe-role":
		for _, r := range []explorer.Role{explorer.RoleViewer, explorer.RoleEditor, explorer.RoleOwner} {
			if value == r.String() {
				h.role = r
				return name, nil
			}
		}
		return "", fmt.Errorf("role %.40q is not viewer, editor or owner", value)
	case "lathe-name":
		if explorer.CleanName(value) == "" {
			return "", errors.New("lathe-name is empty")
		}
		h.name = value
		return name, nil
	case "from":
		for _, text := range strings.Split(value, ",") {
			rule, err := parseAddressRule(text)
			if err != nil {
				return "", err
			}
			h.from = append(h.from, rule)
		}
		return name, nil
	case "expiry-time":
		end, err := parseExpiry(value)
		h.expires = end
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

// A roll is who may log in: the content of an authorized_keys file.
type roll struct {
	holders  []holder
	problems []string // lines that let nobody in, and why
	digest   [sha256.Size]byte
}

func parseRoll(data []byte, role explorer.Role) *roll {
	r := &roll{digest: sha256.Sum256(data)}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		h, err := parseHolder(line, role)
		if err != nil {
			r.problems = append(r.problems, fmt.Sprintf("line %d lets nobody in: %v", number, err))
			continue
		}
		r.holders = append(r.holders, h)
	}
	return r
}

// find returns the first holder of a key, as sshd does.
func (r *roll) find(key gossh.PublicKey) (holder, bool) {
	if key == nil {
		return holder{}, false
	}
	want := key.Marshal()
	for _, h := range r.holders {
		if bytes.Equal(want, h.key.Marshal()) {
			return h, true
		}
	}
	return holder{}, false
}

// keyring reads who may log in from the files that say so.
type keyring struct {
	file string   // authorized_keys
	own  []string // public key files of owners, where there is no authorized_keys file
	role explorer.Role

	mu   sync.Mutex
	last *roll // what was read last, so that a file that did not change is not parsed again
}

// load reads the files as they are now. With an error nobody may log in.
func (k *keyring) load() (*roll, error) {
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
	k.last = parseRoll(data, role)
	return k.last, nil
}

// readKeyFile reads a file that decides who gets in: a regular one that only its owner can write to.
func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("authorized keys: %s is not a regular file", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("authorized keys: %s can be written to by others: run chmod go-w %[1]s", path)
	case info.Size() > maxKeyFile:
		return nil, fmt.Errorf("authorized keys: %s is larger than %d bytes", path, maxKeyFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	return data, nil
}

// UserKeys lists the public key files of the user who runs the process (~/.ssh/id_*.pub).
func UserKeys() ([]string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(home, ".ssh", "id_*.pub"))
}
