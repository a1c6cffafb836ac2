package llamacpp

import (
	"strings"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// maxMarks is the limit of the control tokens that are searched for the marks of a chat format, in bytes.
const maxMarks = 1 << 20

// controlTokens returns the control and user-defined tokens of a vocabulary, one a line.
func controlTokens(kv *gguf.KV) string {
	tokens, _ := kv.Strings("tokenizer.ggml.tokens")
	types, _ := kv.Ints("tokenizer.ggml.token_type")
	var b strings.Builder
	for i, t := range types[:min(len(types), len(tokens))] {
		if (t == 3 || t == 4) && !strings.ContainsRune(tokens[i], 0) && b.Len()+len(tokens[i]) < maxMarks {
			b.WriteString(tokens[i])
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// familyFormat returns llama.cpp's name for the chat format of a model's family, for models whose vocabulary has no marks of
// it; "" if the family is not known.
func familyFormat(arch string, kv *gguf.KV) string {
	words := arch
	for _, key := range []string{"general.name", "general.basename", "general.finetune", "general.base_model.0.name"} {
		s, _ := kv.String(key)
		words += " " + s
	}
	words = strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(words))
	for _, f := range []struct{ word, format string }{
		{"vicuna", "vicuna"}, {"zephyr", "zephyr"}, {"openchat", "openchat"}, {"tinyllama", "zephyr"},
		{"mistral", "mistral-v1"}, {"mixtral", "mistral-v1"}, {"codellama", "llama2-sys"}, {"llama2", "llama2-sys"}, {"llama3", "llama3"},
		{"gemma", "gemma"}, {"phi4", "phi4"}, {"phi3", "phi3"}, {"qwen", "chatml"}, {"commandr", "command-r"}, {"granite", "granite"},
		{"falcon3", "falcon3"}, {"exaone4", "exaone4"}, {"exaone", "exaone3"}, {"deepseekcoder", "deepseek"}, {"deepseek2", "deepseek2"}, {"chatglm", "chatglm4"},
		{"rwkv", "rwkv-world"}, {"minicpm", "minicpm"}, {"orion", "orion"},
	} {
		if strings.Contains(words, f.word) {
			return f.format
		}
	}
	return ""
}
