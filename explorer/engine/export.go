package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Write implements [explorer.Exporter].
func (m *model) Write(ctx context.Context, s gguf.Subnet, path, typ string, mon explorer.Monitor) (gguf.Report, error) {
	r, err := gguf.WriteSubnet(ctx, m.file, path, s, gguf.WriteOptions{Type: typ, Progress: func(done, total int64) {
		mon.Progress(float64(done), float64(total), "bytes", "")
		_ = mon.Gate(ctx) // the writer finds that ctx has ended
	}})
	if why := m.info.NoRuntime; why != "" && err == nil {
		mon.Note("only lathe reads the file: " + why)
	}
	return r, err
}

// Read implements [explorer.Exporter].
func (m *model) Read(ctx context.Context, path string) (gguf.Subnet, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return gguf.Subnet{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	s, err := gguf.ReadSubnet(ctx, m.file, f)
	if errors.Is(err, gguf.ErrSource) {
		err = fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	return s, err
}

// Carry implements [explorer.Cutter].
func (m *model) Carry(ctx context.Context, from gguf.Subnet, to subnet.Masks) (gguf.Subnet, error) {
	return gguf.Carry(ctx, m.file, from, to)
}
