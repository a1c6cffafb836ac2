package convert

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// step is a step of the normalizer or the pre-tokenizer of tokenizer.json, or a sequence of steps.
type step struct {
	Type       string `json:"type"`
	Individual bool   `json:"individual_digits"`
	Prefix     *bool  `json:"add_prefix_space"`
	UseRegex   *bool  `json:"use_regex"`
	Behavior   string `json:"behavior"`
	Invert     bool   `json:"invert"`
	Pattern    struct {
		Regex  string `json:"Regex"`
		String string `json:"String"`
	} `json:"pattern"`
	Content     string `json:"content"`     // of Replace
	Prepend     string `json:"prepend"`     // of Prepend
	Replacement string `json:"replacement"` // of Metaspace
	Scheme      string `json:"prepend_scheme"`
	Split       *bool  `json:"split"`

	Pretokenizers []step `json:"pretokenizers"`
	Normalizers   []step `json:"normalizers"`
}

// list returns the single steps in order.
func (s *step) list() []step {
	if s == nil {
		return nil
	}
	if s.Type != "Sequence" {
		return []step{*s}
	}
	var out []step
	for _, inner := range slices.Concat(s.Pretokenizers, s.Normalizers) {
		out = append(out, inner.list()...)
	}
	return out
}

// The expressions of pre-tokenizers. Each step isolates what its expression matches.
const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	wordsRest    = ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	splitGPT2     = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	splitDigit    = `\p{N}`
	splitDigits   = `\p{N}+`
	splitPunct    = `[\p{P}!-/:-@\[-` + "`" + `{-~]`
	splitPunctRun = splitPunct + `+`
	splitLlama3   = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|` + wordsRest
	splitQwen2    = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|` + wordsRest
	splitUpper    = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	splitLower    = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	splitTekken   = splitUpper + `|` + splitLower + `|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitGPT4o    = splitUpper + contractions + `?|` + splitLower + contractions + `?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitDeepseek = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
	splitBailing  = `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`
	splitSeed     = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitThree    = `[0-9][0-9][0-9]`
	splitBloom    = ` ?[^(\s|.,!?…。，、।۔،)]+`
)

// splitter is a pre-tokenizer of llama.cpp: its name, the expressions of its steps, and whether it takes a piece of text that is a token as that
// token, whatever its merges are.
type splitter struct {
	name         string
	steps        []string
	ignoreMerges bool
}

// splitters are the pre-tokenizers of llama.cpp that steps of tokenizer.json describe. Names of equal steps are left out.
var splitters = []splitter{
	{"llama-bpe", []string{splitLlama3}, true},
	{"dbrx", []string{splitLlama3}, false},
	{"qwen2", []string{splitQwen2}, false},
	{"gpt-2", []string{splitGPT2}, false},
	{"smollm", []string{splitDigit, splitGPT2}, false},
	{"tekken", []string{splitTekken}, true},
	{"gpt-4o", []string{splitGPT4o}, false},
	{"deepseek-v3", []string{`\p{N}{1,3}`, `[一-龥぀-ゟ゠-ヿ]+`, splitDeepseek}, false},
	{"deepseek-coder", []string{"[\r\n]", `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, splitDigit}, false},
	{"bailingmoe", []string{splitBailing}, false},
	{"seed-coder", []string{splitSeed}, false},
	{"superbpe", []string{splitDigits, `(?=(\d{3})+(?!\d))`}, false},
	{"bloom", []string{splitBloom}, false},
	{"falcon", []string{splitPunctRun, splitGPT2, splitThree}, false},
	{"viking", []string{splitBloom, splitDigit}, false},
	{"qwen2", []string{splitLlama3, splitDigit}, false}, // the same pieces, digits being matched by one alternative only
}

// names that llama.cpp treats as another one of the table.
var sameSplitter = map[string]string{
	"llama3": "llama-bpe", "llama-v3": "llama-bpe", "falcon3": "llama-bpe", "falcon-h1": "llama-bpe", "pixtral": "llama-bpe", "midm-2.0": "llama-bpe",
	"lfm2": "llama-bpe", "smaug-bpe": "dbrx", "glm4": "dbrx", "chatglm-bpe": "dbrx", "deepseek-r1-qwen": "qwen2", "kormo": "qwen2", "megrez": "qwen2",
	"stablelm2": "qwen2", "hunyuan": "qwen2", "grok-2": "qwen2", "phi-2": "gpt-2", "gigachat": "gpt-2", "a.x-4.0": "gpt-2", "mellum": "gpt-2",
	"mpt": "gpt-2", "olmo": "gpt-2", "jais": "gpt-2", "trillion": "gpt-2", "granite-docling": "gpt-2", "exaone4": "gpt-2", "starcoder": "smollm",
	"refact": "smollm", "command-r": "smollm", "codeshell": "smollm", "exaone": "smollm", "minerva-7b": "smollm", "llama4": "gpt-4o", "minimax-m2": "gpt-4o",
	"hunyuan-dense": "deepseek-v3", "bailingmoe2": "bailingmoe", "llada-moe": "bailingmoe", "poro-chat": "bloom", "gpt3-finnish": "bloom",
}

// findSplitter returns the pre-tokenizer that a name of llama.cpp stands for.
func findSplitter(name string) (splitter, bool) {
	if same, ok := sameSplitter[name]; ok {
		name = same
	}
	i := slices.IndexFunc(splitters, func(s splitter) bool { return s.name == name })
	if i < 0 {
		return splitter{}, false
	}
	return splitters[i], true
}

// deepseekLLM is the hash of the expressions of the tokenizer that llama.cpp calls deepseek-llm.
const deepseekLLM = "03df5c5863ad70781dcfdef491ead25140f895fe8010964be0daefe27be32b02"

// spellings maps other spellings of an expression to the one above.
var spellings = strings.NewReplacer(
	`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])`, contractions,
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)`, contractions,
	`'(?i:[sdmt]|ll|ve|re)`, `'(?i:[sdmt]|ll|ve|re)`,
	` ?[^(\s|[.,!?…。，、।۔،])]+`, splitBloom,
)

// expressions returns the expressions of the steps of a byte-level pre-tokenizer, and whether it puts a space before a text.
func expressions(pre *step) (out []string, prefix bool, err error) {
	bytes := false
	for i, s := range pre.list() {
		if bytes && (s.Type != "Split" || s.Pattern.Regex != splitThree) { // bytes are letters and digits of their own, except for those of ASCII
			return nil, false, unsupportedStep("pre_tokenizer", s.Type, "behind ByteLevel")
		}
		isolates := s.Behavior == "Isolated" && !s.Invert
		switch s.Type {
		case "ByteLevel":
			bytes = true
			if prefix = s.Prefix != nil && *s.Prefix; prefix && i > 0 { // each piece of the steps before gets a space
				return nil, false, unsupportedStep("pre_tokenizer", "ByteLevel", "with add_prefix_space behind another step")
			}
			if s.UseRegex == nil || *s.UseRegex {
				out = append(out, splitGPT2)
			}
		case "Digits":
			if s.Individual {
				out = append(out, splitDigit)
			} else {
				out = append(out, splitDigits)
			}
		case "Split":
			pattern := spellings.Replace(s.Pattern.Regex)
			// What is between matches of an expression that matches everything is nothing.
			whole := s.Behavior == "Removed" && s.Invert && strings.HasSuffix(pattern, `|\s+`)
			if pattern == "" || !isolates && !whole {
				return nil, false, unsupportedStep("pre_tokenizer", "Split", fmt.Sprintf("by %.60q, %s, invert %v", s.Pattern.Regex+s.Pattern.String, s.Behavior, s.Invert))
			}
			out = append(out, pattern)
		case "Punctuation":
			switch s.Behavior {
			case "Isolated", "":
				out = append(out, splitPunct)
			case "Contiguous":
				out = append(out, splitPunctRun)
			default:
				return nil, false, unsupportedStep("pre_tokenizer", "Punctuation", s.Behavior)
			}
		default:
			return nil, false, unsupportedStep("pre_tokenizer", s.Type, "")
		}
	}
	if !bytes {
		return nil, false, unsupportedStep("pre_tokenizer", "", "without ByteLevel")
	}
	return out, prefix, nil
}

func unsupportedStep(field, kind, detail string) error {
	text := strings.TrimSpace(kind + " " + detail)
	return fmt.Errorf("tokenizer.json: %w: %s: llama.cpp does not compute %s", ErrUnsupported, field, text)
}

// nameSplitter returns llama.cpp's name of a byte-level pre-tokenizer with these expressions, and a note where its tokens may differ.
func nameSplitter(pre *step, steps []string, ignoreMerges bool) (name, note string, err error) {
	for _, exact := range []bool{true, false} {
		for _, s := range splitters {
			if !slices.Equal(s.steps, steps) || exact && s.ignoreMerges != ignoreMerges {
				continue
			}
			if !exact {
				note = fmt.Sprintf("tokenizer.json has ignore_merges %v, and llama.cpp's %s %v: words that merges do not reach get other tokens", ignoreMerges, s.name, s.ignoreMerges)
			}
			return s.name, note, nil
		}
	}
	var splits []string
	kinds := make([]string, 0, len(steps))
	for _, s := range pre.list() {
		kinds = append(kinds, s.Type)
		if s.Type == "Split" {
			splits = append(splits, s.Pattern.Regex)
		}
	}
	if sum := sha256.Sum256([]byte(strings.Join(splits, ""))); hex.EncodeToString(sum[:]) == deepseekLLM {
		return "deepseek-llm", "", nil
	}
	return "", "", fmt.Errorf("tokenizer.json: %w: pre_tokenizer: lathe does not know a name of llama.cpp for the steps %s, by %.120q", ErrUnsupported,
		strings.Join(kinds, ", "), steps)
}

// splitSteps returns the pre-tokenizer of llama.cpp's name, as steps of tokenizer.json. With prefix, a space is put before a text.
func splitSteps(name string, prefix bool) (steps []any, ignoreMerges bool, err error) {
	s, ok := findSplitter(name)
	if !ok {
		return nil, false, fmt.Errorf("%w: pre-tokenizer %.40q", ErrUnsupported, name)
	}
	bytes := func(prefix, regex bool) any {
		return map[string]any{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex}
	}
	if prefix {
		if !slices.Equal(s.steps, []string{splitGPT2}) { // the step of bytes is the last one, and puts a space before each piece of those before
			return nil, false, fmt.Errorf("%w: pre-tokenizer %.40q with a space before texts", ErrUnsupported, name)
		}
		return []any{bytes(true, true)}, s.ignoreMerges, nil
	}
	for i, expression := range s.steps {
		switch {
		case expression == splitGPT2 && i == len(s.steps)-1:
			return append(steps, bytes(false, true)), s.ignoreMerges, nil
		case expression == splitDigit:
			steps = append(steps, map[string]any{"type": "Digits", "individual_digits": true})
		default:
			steps = append(steps, map[string]any{"type": "Split", "pattern": map[string]any{"Regex": expression}, "behavior": "Isolated", "invert": false})
		}
	}
	return append(steps, bytes(false, false)), s.ignoreMerges, nil
}
