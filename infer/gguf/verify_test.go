package gguf_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestVerifyPassesWhatWasWritten verifies written files: re-fitted tensors are listed, and no others.
func TestVerifyPassesWhatWasWritten(t *testing.T) {
	n := 0
	for _, family := range gguftest.Families() {
		for _, c := range cutCases() {
			if uneven(family) {
				c = cutCase{"middle layer", func(m subnet.Masks) subnet.Masks { return dropLayer(m, 1) }}
			}
			// Five does not divide the number of cases, so that every combination occurs in some family.
			o := []gguf.WriteOptions{{}, {Type: "Q8_0"}, {Type: "F32", Zeroed: true}, {}, {Type: "F32"}}[n%5]
			checkVerified(t, family, c, o, n%5 > 2)
			n++
		}
	}
	for _, c := range cutCases() {
		biases := gguftest.Tiny("llama")
		biases.QKVBias, biases.OutBias = true, true
		checkVerified(t, gguftest.Named{Name: "llama biases", Model: biases}, c, gguf.WriteOptions{Zeroed: true}, false)
	}
}

func checkVerified(t *testing.T, family gguftest.Named, c cutCase, o gguf.WriteOptions, refitted bool) {
	t.Helper()
	f := gguftest.Open(t, family.Model)
	s := gguf.Subnet{Masks: c.masks(subnet.Dense(geometryOf(t, f)))}
	if refitted {
		s.Refit = randomRefit(t, f, s.Masks, holdsBiases(family))
	}
	out, _ := write(t, f, s, o)
	v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{Source: f})
	if err := errors.Join(err, v.Err()); err != nil {
		t.Fatalf("%s, %s, %+v, re-fitted %v: %v", family.Name, c.name, o, refitted, err)
	}
	if v.Rounded != 0 || v.Exact+len(v.Refitted) != len(out.Tensors()) || (len(v.Refitted) > 0) != refitted {
		t.Errorf("%s, %s, %+v, re-fitted %v: %+v", family.Name, c.name, o, refitted, v)
	}
	for _, change := range v.Refitted {
		if strings.HasSuffix(change.Tensor, ".weight") && math.Abs(change.Relative-0.5) > 0.02 {
			t.Errorf("%s, %s: %+v, but the columns were stretched by half", family.Name, c.name, change)
		}
	}
}

// rewrite copies a file with its metadata and the bytes of its tensors changed.
func rewrite(t *testing.T, f *gguf.File, edit func(kv *gguf.KV), bytes func(name string, data []byte)) *gguf.File {
	t.Helper()
	kv := f.KV().Clone()
	edit(kv)
	path := filepath.Join(t.TempDir(), "changed.gguf")
	w, err := gguf.Create(path, kv, f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, tensor := range f.Tensors() {
		data, err := f.Read(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		bytes(tensor.Name, data)
		if err := w.Append(tensor.Name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	out, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	return out
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	m := everySecondChannel(dropLayer(subnet.Dense(geometryOf(t, f)), 1), 0, 0)
	out, _ := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{})
	other := everySecondChannel(dropLayer(subnet.Dense(geometryOf(t, f)), 1), 0, 1)
	otherText, err := other.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	wider, err := dropLayer(subnet.Dense(geometryOf(t, f)), 1).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string, value any) func(*gguf.KV) {
		return func(kv *gguf.KV) {
			if err := kv.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		edit   func(kv *gguf.KV)
		tensor string
		change func(data []byte)
		reason string
	}{
		{"one bit of a gate", nil, "blk.0.ffn_gate.weight", func(b []byte) { b[5*128] ^= 1 }, `tensors: tensor "blk.0.ffn_gate.weight" differs from the source from row 5 on`},
		{"one bit of a norm", nil, "blk.1.attn_norm.weight", func(b []byte) { b[2] ^= 1 }, `"blk.1.attn_norm.weight" differs from the source`},
		{"one bit of the embedding", nil, "token_embd.weight", func(b []byte) { b[len(b)-1] ^= 1 }, `row 319 on`},
		{"an infinite number in W_O", nil, "blk.1.attn_output.weight", func(b []byte) { binary.LittleEndian.PutUint16(b, 0x7c00) }, `"blk.1.attn_output.weight" holds +Inf in row 0`},
		{"other channels", key("general.lathe.masks", string(otherText)), "", nil, `"blk.0.ffn_gate.weight" differs from the source from row 0 on`},
		{"masks of another width", key("general.lathe.masks", string(wider)), "", nil, "64 MLP channels, the masks need 4, 2 and 128"},
		{"masks that are none", key("general.lathe.masks", "lathe-masks 1\n"), "", nil, "provenance: general.lathe.masks"},
		{"another share", key("general.lathe.ratio", 0.1), "", nil, "provenance: general.lathe.ratio is 0.1"},
		{"another source", key("general.lathe.source_sha256", strings.Repeat("0", 64)), "", nil, "source: the file was cut from llama.gguf with hash 000000000000"},
		{"no hash", key("general.lathe.source_sha256", "x"), "", nil, "is not a hash"},
		{"counts other than those of the tensors", key("deci.feed_forward_length", []int32{64, 64}), "", nil, "shapes: gguf:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.edit == nil {
				test.edit = func(*gguf.KV) {}
			}
			changed := rewrite(t, out, test.edit, func(name string, data []byte) {
				if name == test.tensor {
					test.change(data)
				}
			})
			v, err := gguf.Verify(ctx, changed, gguf.VerifyOptions{Source: f})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Err(); v.OK() || !errors.Is(err, gguf.ErrMismatch) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestVerifyWithoutSource(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	out, _ := write(t, f, gguf.Subnet{Masks: dropLayer(subnet.Dense(geometryOf(t, f)), 1)}, gguf.WriteOptions{})
	v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{})
	if err != nil || !v.OK() || v.Source != "llama.gguf" || v.Exact != 0 {
		t.Errorf("%+v, error %v", v, err)
	}
	if _, err := gguf.Verify(context.Background(), f, gguf.VerifyOptions{}); !errors.Is(err, gguf.ErrMissing) {
		t.Errorf("a file that nothing was cut from: error %v", err)
	}
}

func TestVerifyAsksForDistributions(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	m := dropLayer(subnet.Dense(geometryOf(t, f)), 1)
	out, _ := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{})
	broken := errors.New("no engine")
	for _, test := range []struct {
		outcome gguf.Outcome
		err     error
		ok      bool
	}{{gguf.Passed, nil, true}, {gguf.Failed, nil, false}, {gguf.Skipped, nil, true}, {gguf.Passed, broken, true}} {
		v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{Source: f,
			Distributions: func(_ context.Context, masks subnet.Masks) ([]gguf.Finding, error) {
				if !masks.Equal(m) {
					t.Error("other masks")
				}
				return []gguf.Finding{{Check: "engine", Outcome: test.outcome, Detail: "8 tokens"}}, test.err
			}})
		if !errors.Is(err, test.err) || v.OK() != test.ok || v.Findings[len(v.Findings)-1].Check != "engine" {
			t.Errorf("%+v: %+v, error %v", test, v.Findings, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := gguf.Verify(ctx, reopen(t, out), gguf.VerifyOptions{Source: f}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
}

// reopen opens a file again, so that its hash is not known.
func reopen(t *testing.T, f *gguf.File) *gguf.File {
	t.Helper()
	again, err := gguf.Open(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}
