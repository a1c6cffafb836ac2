package convert

import (
	"encoding/json"
	"fmt"
	"strings"
)

// isOPT reports whether config.json has OPT's own names and the tokenizer may be in OPT's own files.
func (c *config) isOPT() bool { return c.family.Arch == "opt" }

// optConfig holds the fields of config.json that only OPT has.
type optConfig struct {
	FFNDim          int    `json:"ffn_dim"`
	ProjectionDim   int    `json:"word_embed_proj_dim"`
	Activation3     string `json:"activation_function"`
	NormBefore      bool   `json:"do_layer_norm_before"`
	EnableBias      bool   `json:"enable_bias"`
	NormAffine      bool   `json:"layer_norm_elementwise_affine"`
	RemoveFinalNorm bool   `json:"_remove_final_layer_norm"`
}

// checkOPT copies the fields that have other names in OPT, and rejects variants with another network.
func (c *config) checkOPT() error {
	c.FFN, c.Activation = c.FFNDim, c.Activation3
	if c.ProjectionDim == 0 {
		c.ProjectionDim = c.Hidden
	}
	switch {
	case c.ProjectionDim != c.Hidden:
		return fmt.Errorf("%w: embeddings of %d are projected to a hidden size of %d (word_embed_proj_dim), as only in opt-350m", ErrUnsupported, c.ProjectionDim, c.Hidden)
	case !c.NormBefore:
		return fmt.Errorf("%w: the norms are after the blocks (do_layer_norm_before is false), as only in opt-350m", ErrUnsupported)
	case c.RemoveFinalNorm:
		return fmt.Errorf("%w: no norm before the output (_remove_final_layer_norm)", ErrUnsupported)
	case !c.EnableBias, !c.NormAffine:
		return fmt.Errorf("%w: matrices without biases (enable_bias) or norms without gains (layer_norm_elementwise_affine)", ErrUnsupported)
	case c.KVHeads != 0 && c.KVHeads != c.Heads:
		return fmt.Errorf("%w: %d query heads on %d KV heads in OPT", ErrUnsupported, c.Heads, c.KVHeads)
	case c.Heads > 0 && c.Hidden%c.Heads != 0:
		return fmt.Errorf("%w: a hidden size of %d for %d heads", ErrFormat, c.Hidden, c.Heads)
	}
	return nil
}

// completeOPT builds tokenizer.json from vocab.json and merges.txt, which hold the same vocabulary, where a folder of OPT lacks it. It makes
// texts begin with the start token, as in OPT's own tokenizer.
func (f folder) completeOPT() error {
	config := make(map[string]any)
	if b, ok := f["tokenizer_config.json"]; ok {
		if err := unmarshal(b, &config); err != nil {
			return fmt.Errorf("tokenizer_config.json: %w: %w", ErrFormat, err)
		}
	}
	if _, ok := config["add_bos_token"]; !ok {
		config["add_bos_token"] = true
	}
	if _, ok := config["bos_token"]; !ok {
		config["bos_token"], config["eos_token"] = "</s>", "</s>"
	}
	var err error
	if f["tokenizer_config.json"], err = json.Marshal(config); err != nil {
		return err
	}
	if _, ok := f["tokenizer.json"]; ok {
		return nil
	}
	vocab, merges := f["vocab.json"], f["merges.txt"]
	if vocab == nil || merges == nil {
		return fmt.Errorf("%w: neither tokenizer.json nor vocab.json with merges.txt", ErrFormat)
	}
	var tokens map[string]int
	if err := unmarshal(vocab, &tokens); err != nil {
		return fmt.Errorf("vocab.json: %w: %w", ErrFormat, err)
	}
	var added []addedToken
	for _, content := range []string{"<s>", "<pad>", "</s>", "<unk>"} {
		if id, ok := tokens[content]; ok {
			added = append(added, addedToken{ID: id, Content: content, Special: true})
		}
	}
	var pairs []string
	for line := range strings.Lines(string(merges)) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && !strings.HasPrefix(line, "#version") {
			pairs = append(pairs, line)
		}
	}
	f["tokenizer.json"], err = json.Marshal(map[string]any{
		"added_tokens": added, "model": map[string]any{"type": "BPE", "vocab": tokens, "merges": pairs},
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false},
	})
	return err
}
