package remote

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// content returns a file of a few parts and its content.
func content(t *testing.T) (string, File, []byte) {
	t.Helper()
	data := make([]byte, 2*partBytes+1000)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data)
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := HashFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return path, f, data
}

// part returns a part of the content.
func part(data []byte, n int64) []byte {
	return data[n*partBytes : min(int64(len(data)), (n+1)*partBytes)]
}

// TestDownloadResumes interrupts a transfer after the first part: the next one begins with the second, and the content is checked.
func TestDownloadResumes(t *testing.T) {
	_, f, data := content(t)
	s := Files{Dir: t.TempDir()}
	path := filepath.Join(s.Dir, "download")
	ctx, cancel := context.WithCancel(t.Context())
	var asked []int64
	err := s.download(ctx, path, f, func(n int64, _ bool) ([]byte, error) {
		asked = append(asked, n)
		if n == 1 {
			cancel()
			return nil, errors.New("interrupted")
		}
		return part(data, n), nil
	}, func(int64) {})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	asked = nil
	err = s.download(t.Context(), path, f, func(n int64, _ bool) ([]byte, error) {
		asked = append(asked, n)
		return part(data, n), nil
	}, func(int64) {})
	if err != nil || len(asked) != 2 || asked[0] != 1 {
		t.Errorf("asked for %v, error %v", asked, err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
}

// TestDownloadChecks alters a part: the file is refused and removed.
func TestDownloadChecks(t *testing.T) {
	_, f, data := content(t)
	s := Files{Dir: t.TempDir()}
	path := filepath.Join(s.Dir, "download")
	err := s.download(t.Context(), path, f, func(n int64, _ bool) ([]byte, error) {
		got := bytes.Clone(part(data, n))
		if n == 1 {
			got[77] ^= 1
		}
		return got, nil
	}, func(int64) {})
	if !errors.Is(err, errAltered) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// TestShare shares a file, as a link and for other machines, and finds it by its hash only while its content is right.
func TestShare(t *testing.T) {
	path, f, data := content(t)
	for _, here := range []bool{true, false} {
		dir := t.TempDir()
		for range 2 {
			if err := Share(dir, f, path, here); err != nil {
				t.Fatal(err)
			}
		}
		s := Files{Dir: t.TempDir(), Shared: []string{dir}}
		if got, err := s.find(t.Context(), f); err != nil || got != filepath.Join(dir, f.SHA256) {
			t.Errorf("here %v: path %q, error %v", here, got, err)
		}
		if err := os.Remove(filepath.Join(dir, f.SHA256)); err != nil {
			t.Fatal(err)
		}
		altered := bytes.Clone(data)
		altered[0] ^= 1
		if err := os.WriteFile(filepath.Join(dir, f.SHA256), altered, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.find(t.Context(), f); !errors.Is(err, errAltered) {
			t.Errorf("here %v: error %v", here, err)
		}
	}
}

// TestAddress checks which servers may be used, and that no error quotes a password.
func TestAddress(t *testing.T) {
	for _, test := range []struct {
		a    Address
		want string // "" if it is allowed
	}{
		{Address{URL: "nats://127.0.0.1:4222"}, ""},
		{Address{URL: "nats://[::1]:4222, tls://localhost:4222"}, ""},
		{Address{URL: "nats://10.1.2.3:4222"}, "nothing proves who connects"},
		{Address{URL: "nats://127.0.0.1:4222,nats://10.1.2.3:4222"}, "nothing proves who connects"},
		{Address{URL: "tls://nats.example.org:4222", Creds: "lathe.creds"}, ""},
		{Address{URL: "nats://10.1.2.3:4222", User: "lathe", Password: "secret"}, ""},
		{Address{URL: "tls://10.1.2.3:4222", Cert: "cert.pem"}, "belong together"},
		{Address{URL: "nats://lathe:secret@127.0.0.1:4222"}, "a password does not belong into the address"},
		{Address{URL: "http://127.0.0.1:4222"}, "neither nats nor tls"},
		{Address{URL: "127.0.0.1:4222"}, "not nats://HOST:PORT"},
		{Address{URL: "nats://127.0.0.1/path"}, "not nats://HOST:PORT"},
		{Address{URL: "lathe:secret@host"}, "not nats://HOST:PORT"},
		{Address{}, "not nats://HOST:PORT"},
	} {
		err := test.a.Check()
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrServer)) {
			t.Errorf("%s: error %v", test.a.URL, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", test.a.URL, err)
		}
	}
}
