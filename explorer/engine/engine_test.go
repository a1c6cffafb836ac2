package engine

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestOpenDescribesEveryFamily(t *testing.T) {
	b := newEngine(t)
	seen := make(map[string]string)
	for _, f := range gguftest.Families() {
		t.Run(f.Name, func(t *testing.T) {
			info := open(t, b, f.Model).Info()
			if info.Arch != f.Model.Arch || info.Layers != len(f.Model.Layers) || info.Hidden != 64 || info.FileType != "F16" || info.Params <= info.BlockParams || info.Bytes == 0 {
				t.Errorf("%+v", info)
			}
			if other, ok := seen[info.Fingerprint]; ok {
				t.Errorf("the fingerprint is that of %s", other)
			}
			seen[info.Fingerprint] = f.Name
		})
	}
	m := gguftest.Tiny("llama")
	m.Seed = 2
	if info := open(t, b, m).Info(); seen[info.Fingerprint] != "" {
		t.Error("other weights of the same shape have the same fingerprint")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(gguftest.Write(t, gguftest.Tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	foreign := gguftest.Tiny("llama")
	foreign.Edit = func(kv *gguf.KV) {
		if err := kv.Set("general.architecture", "mamba"); err != nil {
			t.Error(err)
		}
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"missing":   {filepath.Join(dir, "nothing"), os.ErrNotExist},
		"empty":     {write("empty", nil), gguf.ErrFormat},
		"foreign":   {write("foreign", []byte("#!/bin/sh\necho hello\n")), gguf.ErrFormat},
		"cut short": {write("short", good[:len(good)/2]), gguf.ErrFormat},
		"family":    {gguftest.Write(t, foreign), gguf.ErrArchitecture},
	} {
		_, err := newEngine(t).Open(t.Context(), c.path)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCutWriteReadScore goes the whole way on a tiny model: what is written is what was made, and both engines agree on it.
func TestCutWriteReadScore(t *testing.T) {
	for _, preset := range []string{"allocated", "flap"} {
		t.Run(preset, func(t *testing.T) {
			b := newEngine(t)
			m := open(t, b, gguftest.Tiny("llama"))
			mon := &quiet{}
			made, err := m.Cut(t.Context(), explorer.Cut{Preset: preset, Target: 0.7, Calibration: explorer.Calibration{Windows: 4, Seq: 128}, Seed: 1}, mon)
			if err != nil {
				t.Fatal(err)
			}
			if share := made.Subnet.Masks.Size().Ratio; share > 0.7 || share < 0.6 {
				t.Errorf("share %g", share)
			}
			if made.Method.Preset != preset || made.Method.Text.SHA256 == "" || made.Method.Windows != 4 || mon.gates == 0 {
				t.Errorf("method %+v, %d gates", made.Method, mon.gates)
			}
			if preset == "allocated" && len(mon.layers) != 6 {
				t.Errorf("%d blocks reported", len(mon.layers))
			}
			path := filepath.Join(t.TempDir(), "cut.gguf")
			report, err := m.Write(t.Context(), made.Subnet, path, "F32", mon)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != report.Bytes {
				t.Errorf("%d bytes reported, %v", report.Bytes, err)
			}
			read, err := m.Read(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if !read.Masks.Equal(made.Subnet.Masks) {
				t.Error("other masks were read than written")
			}
			r := explorer.ScoreRequest{Seq: 128, Windows: 2, Type: "F32"}
			want, err := m.Score(t.Context(), made.Subnet, r, mon)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Score(t.Context(), read, r, mon)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "read back", got.Perplexity, want.Perplexity, 1e-4)
			r.Engine = explorer.EngineLlama
			if got, err = m.Score(t.Context(), made.Subnet, r, mon); err != nil {
				t.Fatal(err)
			}
			near(t, "llama.cpp", got.Perplexity, want.Perplexity, 5e-3)
			near(t, "its standard error", got.StandardError, want.StandardError, 5e-2)
			if !(want.StandardError > 0) {
				t.Errorf("standard error %g", want.StandardError)
			}
			if got.Conditions.Tokens != 254 || got.Conditions.Type != "F32" {
				t.Errorf("conditions %+v", got.Conditions)
			}
		})
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got/want-1) <= tolerance) {
		t.Errorf("%s: %g, want %g within %g", what, got, want, tolerance)
	}
}

func TestReadRefusesFilesOfOthers(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	other := gguftest.Tiny("llama")
	other.Seed = 7
	path := filepath.Join(t.TempDir(), "other.gguf")
	o := open(t, b, other)
	if _, err := o.Write(t.Context(), gguf.Subnet{Masks: subnet.Dense(o.geometry())}, path, "", &quiet{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Read(t.Context(), path); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("a file cut from another model: %v", err)
	}
}

func TestTexts(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"b.txt": "second", "a/x.md": "first", "c.bin": "\xff\xfe", ".hidden.txt": "no", "bad.dat": "\xff", "empty.txt.off": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, ref, err := readText(dir)
	if err != nil || text != "first\n\nsecond\n\n" || ref.Bytes != int64(len(text)) || len(ref.SHA256) != 64 {
		t.Errorf("folder: %q, %+v, %v", text, ref, err)
	}
	for _, name := range []string{"nothing", "bad.dat", "empty.txt.off"} {
		path := filepath.Join(dir, name)
		if _, _, err := readText(path); !errors.Is(err, explorer.ErrText) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := filepath.Join(dir, "z.txt") // which alone is not too large
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, maxText)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readText(dir); !errors.Is(err, explorer.ErrText) || !strings.Contains(err.Error(), dir+": ") || !strings.Contains(err.Error(), "its files have more than 1073741824 bytes") {
		t.Errorf("a folder of more than is read: %v", err)
	}
}

// text0 returns the first tokens of the default text, without a start token.
func text0(t *testing.T, m *model, n int) []int32 {
	t.Helper()
	load, err := m.tokenizer(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer load.Close()
	text, _, err := readText(m.engine.options.Text)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := load.Tokenize(t.Context(), text, false)
	if err != nil {
		t.Fatal(err)
	}
	return tokens[:n]
}

func TestPassages(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	ctx := t.Context()
	all, err := m.passage(ctx, m.engine.options.Text, take{seq: 64})
	if err != nil {
		t.Fatal(err)
	}
	first, err := m.passage(ctx, m.engine.options.Text, take{seq: 64, windows: 2})
	if err != nil {
		t.Fatal(err)
	}
	last, err := m.passage(ctx, m.engine.options.Text, take{seq: 64, windows: 2, fromEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.windows) != 2 || !slices.Equal(first.windows[1], all.windows[1]) {
		t.Error("the first windows are not those of the whole text")
	}
	if len(last.windows) != 2 || slices.Equal(last.windows[0], first.windows[0]) {
		t.Error("the last windows are not at the end")
	}
	// The tokenizer adds the start token: each window begins with it, or as the papers have it.
	const bos = 1
	for start, want := range map[string][3]bool{
		"": {true, true, true}, explorer.BOSEvery: {true, true, true}, explorer.BOSFirst: {true, false, false}, explorer.BOSNone: {false, false, false},
	} {
		p, err := m.passage(ctx, m.engine.options.Text, take{seq: 64, windows: 3, bos: start})
		if err != nil {
			t.Fatal(err)
		}
		var got [3]bool
		var text []int32 // of all windows
		for i, w := range p.windows {
			if got[i] = w[0] == bos; got[i] {
				w = w[1:]
			}
			text = append(text, w...)
			if len(p.windows[i]) != 64 || slices.Contains(w, bos) {
				t.Errorf("%q: window %d: %v", start, i, p.windows[i])
			}
		}
		if got != want || !slices.Equal(text[:150], text0(t, m, 150)) {
			t.Errorf("%q: start tokens %v, want %v; text %v", start, got, want, text[:150])
		}
		if named := p.id() != p.ref.SHA256; named != (want == [3]bool{true, true, true}) {
			t.Errorf("%q: id %q", start, p.id())
		}
	}
	if last.windows[0][0] != bos || last.windows[1][0] != bos {
		t.Error("the last windows have no start token")
	}
	if _, err := m.passage(ctx, m.engine.options.Text, take{seq: 64, bos: "twice"}); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("another choice: %v", err)
	}
	if _, err := m.passage(ctx, m.engine.options.Text, take{seq: 1 << 20}); !errors.Is(err, explorer.ErrText) || !strings.Contains(err.Error(), "tokens") {
		t.Errorf("a text that is too short: %v", err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Cut(stopped, explorer.Cut{Target: 0.5}, &quiet{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after it was cancelled: %v", err)
	}
}

// TestMachineMemory: the free memory that doctor shows is less than all of it, as it is on a machine that runs something.
func TestMachineMemory(t *testing.T) {
	if memory.Free() == 0 {
		t.Skip("the free memory of this system is not known")
	}
	found := newEngine(t).machine(t.Context()).Found
	m := regexp.MustCompile(`, ([0-9.]+ .?B) of memory, ([0-9.]+ .?B) free$`).FindStringSubmatch(found)
	if m == nil || m[1] == m[2] {
		t.Errorf("%q", found)
	}
}

func TestDiagnose(t *testing.T) {
	checks := newEngine(t).Diagnose(t.Context(), Places{Cache: t.TempDir(), Model: gguftest.Write(t, gguftest.Tiny("llama"))})
	states := make(map[string]State)
	for _, c := range checks {
		states[c.Name] = c.State
		if c.State == Missing && c.Get == "" {
			t.Errorf("%s is missing without a hint how to get it", c.Name)
		}
	}
	for _, name := range []string{"machine", "cache folder", "default model", "calibration text", "engine"} {
		if states[name] != Works {
			t.Errorf("%s: %s", name, states[name])
		}
	}
}
