package gguf_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// defaultModel is the path of the default model; the test is skipped where it is not.
func defaultModel(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("the default model is not in LATHE_CACHE (make setup): %v", err)
	}
	return path
}

func BenchmarkOpen(b *testing.B) {
	path := defaultModel(b)
	for b.Loop() {
		f, err := gguf.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteSubnet(b *testing.B) {
	f, err := gguf.Open(defaultModel(b))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c, err := f.Config()
	if err != nil {
		b.Fatal(err)
	}
	g := c.Geometry()
	m := subnet.Dense(&g)
	for i := range m.Layers() {
		m = set(m, i, func(l *subnet.Layer) { l.Channels = subnet.Range(1536, 0, 1024) })
	}
	out := filepath.Join(b.TempDir(), "out.gguf")
	for b.Loop() {
		if _, err := gguf.WriteSubnet(context.Background(), f, out, gguf.Subnet{Masks: m}, gguf.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
