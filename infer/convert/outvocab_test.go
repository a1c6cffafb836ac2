package convert_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
)

// In a written folder every token has the number that it has in the file. The tokenizers library takes the number of an added token from the
// vocabulary, and counts on from the size of the vocabulary where it is not there, whatever its entry in added_tokens is.
func TestTokensKeepTheirNumbers(t *testing.T) {
	dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	file := folderToFile(t, dir, convert.Options{})
	to := filepath.Join(t.TempDir(), "folder")
	if _, err := convert.WriteFolder(t.Context(), file, to, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(to, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var written struct {
		Model struct{ Vocab map[string]int }
		Added []struct {
			ID      int
			Content string
		} `json:"added_tokens"`
	}
	if err := json.Unmarshal(b, &written); err != nil {
		t.Fatal(err)
	}
	tokens, _ := file.KV().Strings("tokenizer.ggml.tokens")
	number := func(token string) int {
		if id, ok := written.Model.Vocab[token]; ok {
			return id
		}
		next := len(written.Model.Vocab)
		for _, a := range written.Added {
			if a.Content == token {
				return next
			}
			if _, ok := written.Model.Vocab[a.Content]; !ok {
				next++
			}
		}
		return -1
	}
	for i, token := range tokens {
		if got := number(token); got != i {
			t.Errorf("token %d, %q, has number %d", i, token, got)
		}
	}
	if len(written.Added) == 0 {
		t.Error("no added tokens")
	}
}
