package remote_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/search/remote"
)

// double is what the pieces of the tests are: a number to double, and a file whose bytes are to be inverted and repeated.
type double struct{ Number, Times int }

// do does a piece of the tests in a worker.
func do(ctx context.Context, s childSettings, p remote.Piece, files []string, dir string) (remote.Product, error) {
	var d double
	if err := json.Unmarshal(p.Settings, &d); err != nil || p.Kind != "double" {
		return remote.Product{}, errors.New("no piece of the tests")
	}
	if s.GatedPieces {
		select {
		case <-s.Lines:
		case <-ctx.Done():
			return remote.Product{}, ctx.Err()
		}
	}
	switch d.Number {
	case s.PoisonPiece:
		os.Exit(9)
	case s.FailsPiece:
		return remote.Product{}, errors.New("out of memory")
	case s.WrongPiece:
		d.Number++
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return remote.Product{}, err
	}
	path := filepath.Join(dir, "result")
	if err := os.WriteFile(path, doubled(data, d.Times), 0o600); err != nil {
		return remote.Product{}, err
	}
	value, err := json.Marshal(2 * d.Number)
	return remote.Product{Value: value, Files: []string{path}}, err
}

// doubled inverts bytes and repeats them.
func doubled(data []byte, times int) []byte {
	out := make([]byte, 0, len(data)*times)
	for i := range times {
		for _, b := range data {
			out = append(out, ^b+byte(i))
		}
	}
	return out
}

// noise is the content of the file of a piece.
func noise(number int) []byte {
	data := make([]byte, 300_000)
	rng := rand.NewChaCha8([32]byte{byte(number), byte(number >> 8)})
	_, _ = rng.Read(data)
	return data
}
