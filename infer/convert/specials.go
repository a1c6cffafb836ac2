package convert

import (
	"encoding/json"
	"fmt"
	"slices"
)

// endTokensKey lists all tokens that end a text where they are more than one.
const endTokensKey = "tokenizer.ggml.eos_token_ids"

// processor is a post-processor of tokenizer.json.
type processor struct {
	Type   string `json:"type"`
	Single []struct {
		Special *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID string `json:"id"`
		} `json:"Sequence"`
	} `json:"single"`
	Tokens map[string]struct {
		IDs []int `json:"ids"`
	} `json:"special_tokens"`
	Processors []processor `json:"processors"`
}

// frame reads what the post-processor puts before and behind a text.
func (t *tokenizerJSON) frame(v *vocabulary) error {
	var before, behind []int
	var read func(p processor) error
	read = func(p processor) error {
		switch p.Type {
		case "ByteLevel", "":
		case "Sequence":
			for _, inner := range p.Processors {
				if err := read(inner); err != nil {
					return err
				}
			}
		case "TemplateProcessing":
			text := false
			for _, piece := range p.Single {
				switch {
				case piece.Sequence != nil:
					text = true
				case piece.Special == nil:
				case text:
					behind = append(behind, p.Tokens[piece.Special.ID].IDs...)
				default:
					before = append(before, p.Tokens[piece.Special.ID].IDs...)
				}
			}
		default:
			return fmt.Errorf("tokenizer.json: %w: post_processor %.40s", ErrUnsupported, p.Type)
		}
		return nil
	}
	if t.Post != nil {
		if err := read(*t.Post); err != nil {
			return err
		}
	}
	if len(before) > 1 || len(behind) > 1 {
		return fmt.Errorf("tokenizer.json: %w: post_processor puts %d tokens before a text and %d behind it, llama.cpp one", ErrUnsupported, len(before), len(behind))
	}
	bos, eos := len(before) > 0, len(behind) > 0
	v.addBOS, v.addEOS = &bos, &eos
	if bos {
		v.named["first"] = before[0]
	}
	if eos {
		v.named["last"] = behind[0]
	}
	return nil
}

// tokenIDs is a number of a token or a list of them.
type tokenIDs []int

// UnmarshalJSON implements [json.Unmarshaler].
func (n *tokenIDs) UnmarshalJSON(b []byte) error {
	var one *int
	if json.Unmarshal(b, &one) == nil {
		if one != nil {
			*n = tokenIDs{*one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]int)(n))
}

// ids are the numbers of special tokens in config.json and generation_config.json.
type ids struct {
	BOS *tokenIDs `json:"bos_token_id"`
	EOS *tokenIDs `json:"eos_token_id"`
	PAD *tokenIDs `json:"pad_token_id"`
}

// classIDs are the start and end tokens of classes whose config.json has none, as in transformers.
var classIDs = map[string][2]int{
	"LlamaForCausalLM": {1, 2}, "MistralForCausalLM": {1, 2}, "DeciLMForCausalLM": {1, 2}, "Gemma2ForCausalLM": {2, 1}, "Gemma3ForCausalLM": {2, 1},
	"OPTForCausalLM": {2, 2},
}

// readIDs returns the numbers in config.json and generation_config.json, with the defaults of the class.
func readIDs(files folder) (model, generation ids, err error) {
	for name, to := range map[string]*ids{"config.json": &model, "generation_config.json": &generation} {
		b, ok := files[name]
		if !ok {
			continue
		}
		if err := unmarshal(b, to); err != nil {
			return ids{}, ids{}, fmt.Errorf("%s: %w: %w", name, ErrFormat, err)
		}
	}
	var class struct {
		Architectures []string                   `json:"architectures"`
		Keys          map[string]json.RawMessage `json:"-"`
	}
	b, ok := files["config.json"]
	if !ok || unmarshal(b, &class) != nil || unmarshal(b, &class.Keys) != nil || len(class.Architectures) != 1 {
		return model, generation, nil
	}
	if usual, ok := classIDs[class.Architectures[0]]; ok {
		if _, ok := class.Keys["bos_token_id"]; !ok && generation.BOS == nil {
			model.BOS = &tokenIDs{usual[0]}
		}
		if _, ok := class.Keys["eos_token_id"]; !ok && generation.EOS == nil {
			model.EOS = &tokenIDs{usual[1]}
		}
	}
	return model, generation, nil
}

// findSpecials sets the keys of the special tokens: those that tokenizer_config.json or special_tokens_map.json names, else those of the
// vocabulary itself, else the numbers in config.json and generation_config.json.
func (v *vocabulary) findSpecials(files folder, config settings) error {
	var other settings
	if b, ok := files["special_tokens_map.json"]; ok {
		if err := unmarshal(b, &other); err != nil {
			return fmt.Errorf("special_tokens_map.json: %w: %w", ErrFormat, err)
		}
	}
	model, generation, err := readIDs(files)
	if err != nil {
		return err
	}
	found := make(map[string]int)
	for _, s := range []struct {
		key   string
		texts []special
		lists []*tokenIDs
	}{
		{"bos", []special{config.BOS, other.BOS}, []*tokenIDs{model.BOS, generation.BOS}},
		{"eos", []special{config.EOS, other.EOS}, []*tokenIDs{generation.EOS, model.EOS}},
		{"padding", []special{config.PAD, other.PAD}, []*tokenIDs{model.PAD, generation.PAD}},
		{"unknown", []special{config.UNK, other.UNK}, nil},
		{"seperator", []special{config.SEP, other.SEP}, nil}, //nolint:misspell // llama.cpp spells the key so
		{"cls", []special{config.CLS, other.CLS}, nil},
		{"mask", []special{config.Mask, other.Mask}, nil},
	} {
		if id, ok := v.find(s.texts, v.named[s.key], s.lists, s.key); ok {
			found[s.key] = id
			v.values["tokenizer.ggml."+s.key+"_token_id"] = uint32(id)
		}
	}
	if config.AddBOS != nil || config.AddEOS != nil { // they replace the post-processor
		v.addBOS, v.addEOS = or(config.AddBOS, v.addBOS != nil), or(config.AddEOS, v.addEOS != nil)
		delete(v.named, "first")
		delete(v.named, "last")
	}
	if err := v.checkFrame(found); err != nil {
		return err
	}
	_, hasBOS := found["bos"]
	_, hasEOS := found["eos"]
	no := false
	if !hasBOS {
		v.addBOS = &no
	}
	if !hasEOS {
		v.addEOS = &no
	}
	for key, add := range map[string]*bool{"bos": v.addBOS, "eos": v.addEOS} {
		if add != nil {
			v.values["tokenizer.ggml.add_"+key+"_token"] = *add
		}
	}
	if !hasEOS {
		return fmt.Errorf("tokenizer: %w: no end token: neither tokenizer_config.json (eos_token) nor config.json or generation_config.json (eos_token_id) has one", ErrUnsupported)
	}
	v.endTokens(found, generation.EOS, model.EOS)
	return nil
}

// or returns add, or false where it is nil and the vocabulary decides by itself.
func or(add *bool, decides bool) *bool {
	if add == nil && decides {
		return new(bool)
	}
	return add
}

// find returns the number of a special token: by its text, else by the vocabulary's own number, else by those of the configurations.
func (v *vocabulary) find(texts []special, named int, lists []*tokenIDs, key string) (int, bool) {
	for _, text := range texts {
		if at := slices.Index(v.tokens, string(text)); at >= 0 && text != "" {
			return at, true
		}
	}
	if _, ok := v.named[key]; ok {
		return named, true
	}
	for _, list := range lists {
		if list == nil {
			continue
		}
		for _, id := range *list {
			if id >= 0 && id < len(v.tokens) {
				return id, true
			}
		}
	}
	return 0, false
}

// checkFrame checks that what the post-processor puts around a text is what llama.cpp puts there.
func (v *vocabulary) checkFrame(found map[string]int) error {
	for _, f := range []struct{ edge, key string }{{"first", "bos"}, {"last", "eos"}} {
		id, ok := v.named[f.edge]
		if !ok {
			continue
		}
		if is, ok := found[f.key]; !ok || is != id {
			return fmt.Errorf("tokenizer.json: %w: post_processor puts token %d %s, llama.cpp the %s token %d", ErrUnsupported, id, f.edge, f.key, is)
		}
	}
	return nil
}

// endTexts are the texts by which llama.cpp recognises tokens that end a reply.
var endTexts = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>",
	"<|end_of_text|>", "<end_of_utterance>",
}

// endTokens sets the keys of the tokens that end a text besides the end token.
func (v *vocabulary) endTokens(found map[string]int, lists ...*tokenIDs) {
	all := []int32{int32(found["eos"])}
	for _, list := range lists {
		if list == nil {
			continue
		}
		for _, id := range *list {
			if id >= 0 && id < len(v.tokens) && !slices.Contains(all, int32(id)) {
				all = append(all, int32(id))
			}
		}
	}
	if len(all) == 1 {
		return
	}
	v.values[endTokensKey] = all
	keys := []string{"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"} // read by llama.cpp, which knows no lists
	for _, id := range all[1:] {
		if len(keys) > 0 && !slices.Contains(endTexts, v.tokens[id]) {
			v.values[keys[0]] = uint32(id)
			keys = keys[1:]
		}
	}
}
