package gguf_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// trimmed returns the n entries that are kept of the vocabulary of a tiny model where "the" and "of" are the most frequent words.
func trimmed(t *testing.T, f *gguf.File, n int) []int {
	t.Helper()
	v, err := f.Vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	counts := make([]float64, v.Len())
	for id := range counts {
		if text := v.Text(id); text == " the" || text == " of" {
			counts[id] = 100
		}
	}
	r, err := v.Rank(vocab.Request{Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	n = max(n, r.Least(true))
	return r.Kept(n)
}

// withVocab returns the masks with n entries of the vocabulary.
func withVocab(t *testing.T, f *gguf.File, m subnet.Masks, n int) subnet.Masks {
	t.Helper()
	m, err := m.WithVocab(subnet.Of(m.Geometry().Vocab, trimmed(t, f, n)...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Files of all families hold the rows, tokens and numbers of the kept entries, read back as the same masks and pass verification.
func TestTrimmedFiles(t *testing.T) {
	for _, family := range gguftest.Families() {
		t.Run(family.Name, func(t *testing.T) {
			m := family.Model
			m.Edit = func(kv *gguf.KV) {
				for key, value := range map[string]any{
					"tokenizer.ggml.eos_token_ids": []int32{2, 4}, "tokenizer.ggml.mask_token_id": int32(-1), "tokenizer.huggingface.json": "{}",
					"tokenizer.ggml.suppress_tokens": []int32{3}, gguf.LStripKey: []int32{4}, gguf.RStripKey: []int32{4, 3}, gguf.SingleWordKey: []int32{3},
				} {
					if err := kv.Set(key, value); err != nil {
						t.Fatal(err)
					}
				}
			}
			f := gguftest.Open(t, m)
			masks := withVocab(t, f, subnet.Dense(geometryOf(t, f)), 270)
			kept := masks.Vocab().Indices()
			out, report := write(t, f, gguf.Subnet{Masks: masks}, gguf.WriteOptions{})
			config, err := out.Config()
			if err != nil {
				t.Fatal(err)
			}
			if config.Vocab != len(kept) || len(kept) > 290 || report.TensorBytes != masks.GGUFBytes("F16") {
				t.Errorf("%d rows and %d bytes of tensors, want %d and %d", config.Vocab, report.TensorBytes, len(kept), masks.GGUFBytes("F16"))
			}
			checkTrimmedRows(t, f, out, kept)
			checkTrimmedTokens(t, f, out, kept)
			back, err := gguf.ReadSubnet(context.Background(), f, out)
			if err != nil || !back.Masks.Equal(masks) {
				t.Errorf("reads back as %d entries, error %v", back.Masks.VocabLen(), err)
			}
			v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{Source: f})
			if err := errors.Join(err, v.Err()); err != nil || v.Exact != len(out.Tensors()) {
				t.Errorf("%+v, error %v", v, err)
			}
			sizes, err := gguf.NewSizes(f)
			if err != nil {
				t.Fatal(err)
			}
			if size, err := sizes.Of(masks, gguf.Refitted{}, ""); err != nil || size.File != report.Bytes {
				t.Errorf("%d bytes predicted, %d written, error %v", size.File, report.Bytes, err)
			}
		})
	}
}

// checkTrimmedRows compares the rows of embedding and output with those of the source.
func checkTrimmedRows(t *testing.T, f, out *gguf.File, kept []int) {
	t.Helper()
	for _, name := range []string{"token_embd.weight", "output.weight"} {
		if !f.Has(name) {
			continue
		}
		all, err := f.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		some, err := out.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		size := len(some) / len(kept)
		for i, id := range kept {
			if !slices.Equal(some[i*size:(i+1)*size], all[id*size:(id+1)*size]) {
				t.Fatalf("row %d of %s is not row %d of the source", i, name, id)
			}
		}
	}
}

// checkTrimmedTokens compares the tables of the vocabulary with those of the source.
func checkTrimmedTokens(t *testing.T, f, out *gguf.File, kept []int) {
	t.Helper()
	const prefix = "tokenizer.ggml."
	all, _ := f.KV().Strings(prefix + "tokens")
	some, _ := out.KV().Strings(prefix + "tokens")
	allTypes, _ := f.KV().Ints(prefix + "token_type")
	types, _ := out.KV().Ints(prefix + "token_type")
	allScores, _ := f.KV().Floats(prefix + "scores")
	scores, _ := out.KV().Floats(prefix + "scores")
	if len(some) != len(kept) || len(types) != len(kept) || len(scores) != len(kept) {
		t.Fatalf("%d tokens, %d types, %d scores of %d entries", len(some), len(types), len(scores), len(kept))
	}
	for i, id := range kept {
		if some[i] != all[id] || types[i] != allTypes[id] || scores[i] != allScores[id] {
			t.Fatalf("entry %d is %q of type %d, entry %d of the source %q of type %d", i, some[i], types[i], id, all[id], allTypes[id])
		}
	}
	named := func(f *gguf.File, key string) []string {
		list, ok := f.KV().Ints(prefix + key)
		if one, scalar := f.KV().Int(prefix + key); scalar {
			list, ok = []int64{one}, true
		}
		if !ok {
			return nil
		}
		tokens, _ := f.KV().Strings(prefix + "tokens")
		var out []string
		for _, id := range list {
			if id < 0 {
				out = append(out, "none")
			} else {
				out = append(out, tokens[id])
			}
		}
		return out
	}
	for _, key := range []string{"bos_token_id", "eos_token_id", "eot_token_id", "padding_token_id", "unknown_token_id", "eos_token_ids", "mask_token_id", "suppress_tokens"} {
		if a, b := named(f, key), named(out, key); a == nil || !slices.Equal(a, b) {
			t.Errorf("%s is %q, in the source %q", key, b, a)
		}
	}
	texts := func(f *gguf.File) (out []string) {
		tokens, _ := f.KV().Strings(prefix + "tokens")
		w := f.KV().WholeTokens()
		for _, id := range slices.Concat(w.LStrip, w.RStrip, w.SingleWord) {
			out = append(out, tokens[id])
		}
		return out
	}
	if a, b := texts(f), texts(out); len(a) != 4 || !slices.Equal(a, b) {
		t.Errorf("tokens with white space are %q, in the source %q", b, a)
	}
	merges, pairs := out.KV().Strings(prefix + "merges")
	has := func(token string) bool { return slices.Contains(some, token) }
	for _, m := range merges {
		if left, right, _ := strings.Cut(m, " "); !has(left) || !has(right) || !has(left+right) {
			t.Errorf("merge %q without its tokens", m)
		}
	}
	before, _ := f.KV().Strings(prefix + "merges")
	if pairs && (len(merges) == 0 || len(merges) >= len(before)) {
		t.Errorf("%d merges of %d", len(merges), len(before))
	}
	if out.KV().Has("tokenizer.huggingface.json") {
		t.Error("the tokenizer of the source is still in the file")
	}
	if arch, _ := out.KV().String("general.architecture"); true {
		if n, _ := out.KV().Uint(arch + ".vocab_size"); n != uint64(len(kept)) {
			t.Errorf("vocab_size is %d", n)
		}
	}
}

// Numbers that llama.cpp takes for missing keys are those of other tokens in a smaller vocabulary: the file names them.
func TestTrimmedFilesNameDefaults(t *testing.T) {
	for arch, want := range map[string]map[string]string{
		"llama": {"bos": "<s>", "eos": "</s>", "unknown": "<unk>"}, "qwen2": {"bos": "", "eos": ""},
	} {
		m := gguftest.Tiny(arch)
		m.Edit = func(kv *gguf.KV) {
			for _, name := range []string{"bos", "eos", "unknown"} {
				kv.Delete("tokenizer.ggml." + name + "_token_id")
			}
		}
		f := gguftest.Open(t, m)
		all, _ := f.KV().Strings("tokenizer.ggml.tokens")
		out, _ := write(t, f, gguf.Subnet{Masks: withVocab(t, f, subnet.Dense(geometryOf(t, f)), 0)}, gguf.WriteOptions{})
		tokens, _ := out.KV().Strings("tokenizer.ggml.tokens")
		for name, token := range want {
			if token == "" {
				token = all[11] // as llama.cpp takes it
			}
			if id, ok := out.KV().Uint("tokenizer.ggml." + name + "_token_id"); !ok || tokens[id] != token {
				t.Errorf("%s: %s is token %d, want %q", arch, name, id, token)
			}
		}
	}
}

func TestTrimmedAndCut(t *testing.T) {
	for _, arch := range []string{"llama", "qwen2"} {
		f := gguftest.Open(t, gguftest.Tiny(arch))
		m := withVocab(t, f, everySecondChannel(dropLayer(subnet.Dense(geometryOf(t, f)), 1), 0, 0), 280)
		s := gguf.Subnet{Masks: m, Refit: randomRefit(t, f, m, false)}
		out, _ := write(t, f, s, gguf.WriteOptions{Type: "F32"})
		v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{Source: f})
		if err := errors.Join(err, v.Err()); err != nil || len(v.Refitted) == 0 {
			t.Errorf("%s: %+v, error %v", arch, v, err)
		}
		// A file of a smaller vocabulary is a model of its own, which can be trimmed again.
		again, _ := write(t, out, gguf.Subnet{Masks: withVocab(t, out, subnet.Dense(geometryOf(t, out)), 270)}, gguf.WriteOptions{})
		if c, err := again.Config(); err != nil || c.Vocab >= m.VocabLen() {
			t.Errorf("%s: %d entries after %d, error %v", arch, c.Vocab, m.VocabLen(), err)
		}
	}
}

func TestVerifyChecksVocabularies(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("qwen2"))
	m := withVocab(t, f, subnet.Dense(geometryOf(t, f)), 290)
	out, _ := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{})
	set := func(key string, value any) func(*gguf.KV) {
		return func(kv *gguf.KV) {
			if err := kv.Set(key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	tokens, _ := out.KV().Strings("tokenizer.ggml.tokens")
	merges, _ := out.KV().Strings("tokenizer.ggml.merges")
	swapped := slices.Clone(tokens)
	swapped[100], swapped[101] = swapped[101], swapped[100]
	all, err := subnet.Dense(geometryOf(t, f)).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*gguf.KV)
		want string
	}{
		"tokens":         {set("tokenizer.ggml.tokens", swapped), `vocabulary: key "tokenizer.ggml.tokens"`},
		"merges":         {set("tokenizer.ggml.merges", merges[1:]), `vocabulary: key "tokenizer.ggml.merges"`},
		"a number":       {set("tokenizer.ggml.eos_token_id", uint32(7)), `vocabulary: key "tokenizer.ggml.eos_token_id"`},
		"one more":       {set("tokenizer.ggml.cls_token_id", uint32(7)), `vocabulary: key "tokenizer.ggml.cls_token_id"`},
		"masks":          {set("general.lathe.masks", string(all)), "shapes: a vocabulary of"},
		"another layout": {set("tokenizer.chat_template", "{{ messages[0].content }}"), ""},
	} {
		changed := rewrite(t, out, c.edit, func(string, []byte) {})
		v, err := gguf.Verify(context.Background(), changed, gguf.VerifyOptions{Source: f})
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Err(); c.want == "" && got != nil || c.want != "" && (got == nil || !strings.Contains(got.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, got, c.want)
		}
	}
}

func TestVocabulariesThatCannotBeTrimmed(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out.gguf")
	for name, c := range map[string]struct {
		change func(*gguftest.Model)
		kept   func(all []int) []int
		want   error
		text   string
	}{
		"a byte":        {nil, func(all []int) []int { return slices.Delete(all, 50, 51) }, gguf.ErrSubnet, "byte"},
		"a named token": {nil, func(all []int) []int { return slices.Delete(all, 4, 5) }, gguf.ErrSubnet, "eot_token_id"},
		"a part":        {nil, func(all []int) []int { return slices.Delete(all, 262, 263) }, gguf.ErrSubnet, "merged"},
		"no tokenizer":  {func(m *gguftest.Model) { m.NoTokenizer = true }, func(all []int) []int { return all[:300] }, gguf.ErrMissing, "tokens"},
		"another kind": {func(m *gguftest.Model) {
			m.Edit = func(kv *gguf.KV) { _ = kv.Set("tokenizer.ggml.model", "bert") }
		}, func(all []int) []int { return all[:300] }, gguf.ErrArchitecture, "bert"},
		"too few types": {func(m *gguftest.Model) {
			m.Edit = func(kv *gguf.KV) { _ = kv.Set("tokenizer.ggml.token_type", []int32{1}) }
		}, func(all []int) []int { return all[:300] }, gguf.ErrFormat, "1 types"},
	} {
		m := gguftest.Tiny("qwen2")
		if c.change != nil {
			c.change(&m)
		}
		f := gguftest.Open(t, m)
		all := subnet.Full(m.Vocab).Indices()
		masks, err := subnet.Dense(geometryOf(t, f)).WithVocab(subnet.Of(m.Vocab, c.kept(all)...))
		if err != nil {
			t.Fatal(err)
		}
		_, err = gguf.WriteSubnet(context.Background(), f, dst, gguf.Subnet{Masks: masks}, gguf.WriteOptions{})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
