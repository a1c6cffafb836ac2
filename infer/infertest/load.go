package infertest

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

func (s Subject) engine(t *testing.T) {
	e := s.Engine(t)
	if e.Name() == "" {
		t.Error("the engine has no name")
	}
	devices, err := e.Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	processors := 0
	for _, d := range devices {
		if d.Name == "" || d.Free < 0 || d.Total < 0 {
			t.Errorf("device %+v", d)
		}
		if !d.GPU {
			processors++
		}
	}
	if processors == 0 {
		t.Errorf("no processor among devices %+v", devices)
	}
	if err := e.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	_, err = e.Devices(t.Context())
	expect(t, "devices of a closed engine", err, infer.ErrClosed)
	_, err = e.Load(t.Context(), s.options(), nil)
	expect(t, "load in a closed engine", err, infer.ErrClosed)
}

func (s Subject) load(t *testing.T) {
	e := s.Engine(t)
	defer func() { _ = e.Close() }()
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.gguf")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("not a model ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		edit func(*infer.LoadOptions)
		want error
	}{
		{"missing file", func(o *infer.LoadOptions) { o.Path = filepath.Join(dir, "none.gguf") }, fs.ErrNotExist},
		{"file that is not a model", func(o *infer.LoadOptions) { o.Path = foreign }, infer.ErrBadModel},
		{"negative context", func(o *infer.LoadOptions) { o.Context = -1 }, infer.ErrInvalid},
		{"endless context", func(o *infer.LoadOptions) { o.Context = 1 << 30 }, infer.ErrInvalid},
		{"context beyond the memory", func(o *infer.LoadOptions) {
			o.Context, o.Batch, o.FlashAttention = 1<<24, 1<<16, false
		}, infer.ErrNoMemory},
		{"negative batch", func(o *infer.LoadOptions) { o.Batch = -1 }, infer.ErrInvalid},
		{"too many threads", func(o *infer.LoadOptions) { o.Threads = 1 << 20 }, infer.ErrInvalid},
		{"unknown cache type", func(o *infer.LoadOptions) { o.KVType = "q5_1" }, infer.ErrInvalid},
		{"quantised cache without flash attention", func(o *infer.LoadOptions) {
			o.KVType, o.FlashAttention = infer.KVQ80, false
		}, infer.ErrInvalid},
	} {
		if s.Except[test.name] != "" {
			continue
		}
		o := s.options()
		test.edit(&o)
		_, err := e.Load(t.Context(), o, func(float64) { t.Errorf("%s: loading began", test.name) })
		expect(t, test.name, err, test.want)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Load(ended, s.options(), nil)
	expect(t, "cancelled before loading", err, context.Canceled)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if m, err := e.Load(ctx, s.options(), func(float64) { cancel() }); err == nil {
		_ = m.Close() // loaded before anybody looked
	} else {
		expect(t, "cancelled while loading", err, context.Canceled)
	}

	// After all that the engine loads, and what ended the calls before has no effect.
	ctx, cancel = context.WithCancel(t.Context())
	last, returned := 0.0, false
	m, err := e.Load(ctx, s.options(), func(share float64) {
		if share < last || share > 1 || returned {
			t.Errorf("progress %g after %g, Load returned: %v", share, last, returned)
		}
		last = share
	})
	if err != nil {
		t.Fatal(err)
	}
	returned = true
	cancel()
	if _, err := m.Tokenize(t.Context(), "x", false); err != nil {
		t.Errorf("after the context of Load ended: %v", err)
	}
	second, err := e.Load(t.Context(), s.options(), nil)
	if err != nil {
		t.Fatalf("the same file twice: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := second.Tokenize(t.Context(), "x", false); err != nil {
		t.Errorf("one of two models was closed, the other: %v", err)
	}
}

func (s *suite) info(t *testing.T) {
	i := s.model.Info()
	if i.Path == "" || i.Name == "" || i.Arch == "" || i.Type == "" || i.Engine == "" {
		t.Errorf("empty fields in %+v", i)
	}
	if i.FileBytes <= 0 || i.Params <= 0 || i.Layers <= 0 || i.Hidden <= 0 || i.Vocab <= 0 || i.TrainContext <= 0 || i.LoadTime <= 0 {
		t.Errorf("fields that are not positive in %+v", i)
	}
	if i.Context != contextSize || i.Threads != 1 || i.KVType != infer.KVF16 || !i.FlashAttention {
		t.Errorf("options in %+v are not those of the load", i)
	}
	if i.EOS < 0 || int(i.EOS) >= i.Vocab || i.AddBOS && (i.BOS < 0 || int(i.BOS) >= i.Vocab) {
		t.Errorf("special tokens in %+v", i)
	}
	if n := i.Needed; n.Weights <= 0 || n.KVCache <= 0 || n.Resident != 0 || n.Peak != 0 {
		t.Errorf("estimate %+v", n)
	}
}

func (s *suite) memory(t *testing.T) {
	m, err := s.model.Memory(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if m.Weights <= 0 || m.KVCache <= 0 || m.Compute < 0 || m.Resident < 0 || m.Peak < m.Resident {
		t.Errorf("memory %+v", m)
	}
}
