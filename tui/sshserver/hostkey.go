package sshserver

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/infer/durable"
)

// hostKey reads the server's private key, and creates an Ed25519 key if there is none. It returns an error for a key that
// others can read, or that does not parse, and does not replace it: that would look like an attack to every known client.
func hostKey(path string) (gossh.Signer, error) {
	data, err := readHostKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeHostKey(path); err != nil {
			return nil, fmt.Errorf("make host key: %w", err)
		}
		data, err = readHostKey(path)
	}
	if err != nil {
		return nil, err
	}
	signer, err := gossh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("host key %s: %w", path, err)
	}
	return signer, nil
}

func readHostKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("host key: %s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("host key: %s is readable by others: run chmod 600 %[1]s", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return data, nil
}

// makeHostKey writes a new key. If several processes do that at the same time the first one wins, and none reads a partial
// file.
func makeHostKey(path string) (err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := gossh.MarshalPrivateKey(private, "lathe host key")
	if err != nil {
		return err
	}
	known, err := gossh.NewPublicKey(public)
	if err != nil {
		return err
	}
	folder := filepath.Dir(path)
	if err := durable.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := durable.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(pem.EncodeToMemory(block)); err != nil {
		return err
	}
	if err := f.CommitNew(); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	line := bytes.TrimSpace(gossh.MarshalAuthorizedKey(known))
	return durable.WriteFile(path+".pub", append(line, " lathe\n"...), 0o644)
}
