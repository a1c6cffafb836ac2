package explorertest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func (m *model) Write(ctx context.Context, s gguf.Subnet, path, typ string, mon explorer.Monitor) (gguf.Report, error) {
	if typ == "" {
		typ = m.info.FileType
	}
	const steps = 10
	size := s.Masks.GGUFBytes(typ)
	if s.Types != nil && typ == m.info.FileType {
		typed, err := sizes{}.OfTypes(s.Masks, gguf.Refitted{}, s.Types)
		if err != nil {
			return gguf.Report{}, err
		}
		size = typed.File
	}
	for i := range steps {
		if err := m.step(ctx, mon, int(size)*i/steps, int(size), "bytes", ""); err != nil {
			return gguf.Report{}, err
		}
	}
	content, err := s.Masks.MarshalText()
	if err != nil {
		return gguf.Report{}, err
	}
	err = m.b.persist(ctx, mon, func() error { return os.WriteFile(path, content, 0o644) })
	if err != nil {
		return gguf.Report{}, err
	}
	return gguf.Report{Path: path, Arch: "deci", Bytes: size, TensorBytes: size, SourceBytes: m.info.Bytes, ByType: map[string]int64{typ: size}}, nil
}

// persist writes, after Write.
func (b *Backend) persist(ctx context.Context, mon explorer.Monitor, write func() error) error {
	return mon.Persist(ctx, func() error {
		if b.Write != nil {
			if err := b.Write(); err != nil {
				return err
			}
		}
		return write()
	})
}

// WriteFolder writes the content of Write to a file in the folder.
func (m *model) WriteFolder(ctx context.Context, s gguf.Subnet, path, typ string, mon explorer.Monitor) (gguf.Report, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return gguf.Report{}, err
	}
	r, err := m.Write(ctx, s, filepath.Join(path, "model.safetensors"), cmp.Or(typ, "F16"), mon)
	r.Path, r.Arch = path, "DeciLMForCausalLM"
	return r, err
}

// CheckFile implements [explorer.Exporter].
func (m *model) CheckFile(path string) error {
	_, err := m.Read(context.Background(), path)
	return err
}

func (m *model) Read(_ context.Context, path string) (gguf.Subnet, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return gguf.Subnet{}, err
	}
	if !bytes.HasPrefix(content, []byte("lathe-masks")) {
		return gguf.Subnet{}, fmt.Errorf("%s: %w", filepath.Base(path), gguf.ErrFormat)
	}
	masks, err := subnet.ParseMasks(m.info.Geometry, content)
	return gguf.Subnet{Masks: masks}, err
}
