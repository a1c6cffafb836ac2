package vocabulary

import (
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// Tokens that take part in what is beside them: the expected tokens are those of the tokenizers library (0.22) for added tokens of
// the same properties and a byte-level vocabulary without merges.
func TestTokensBesideText(t *testing.T) {
	names := []string{"<l>", "<r>", "<b>", "<w>", "<ul>"}
	whole := gguf.WholeTokens{LStrip: []int32{1000, 1002, 1004}, RStrip: []int32{1001, 1002}, SingleWord: []int32{1003}}
	n := Tokenizer{BOS: -1, Apart: true, Split: func(text string, _ bool) (ids []int32, err error) {
		for _, b := range []byte(text) {
			ids = append(ids, int32(b))
		}
		return ids, nil
	}}
	for i, name := range names {
		s := Special{ID: 1000 + int32(i), Text: name}.With(whole)
		if name == "<ul>" {
			n.Whole.Add(s)
		} else {
			n.Controls.Add(s)
		}
	}
	for _, test := range []struct{ text, want string }{
		{"a <l> b", "a|<l>| b"},
		{"a <r> b", "a |<r>|b"},
		{"a \n<b>\t b", "a|<b>|b"},
		{"a<w> b", "a<w> b"},
		{"a <w> b", "a |<w>| b"},
		{"<w>", "<w>|"},
		{"_<w>", "_<w>"},
		{"é<w>", "é<w>"},
		{"<w><w>", "<w>|<w>|"},
		{"- <w>1", "- <w>1"},
		{"<r> <l>", "<r>|<l>|"},
		{"<l> <r> <b>", "<l>| |<r>|<b>|"},
		{"a  <ul> b", "a|<ul>| b"},
		{"<ul> <l>", "<ul>|<l>|"},
		{"<r>  <ul>", "<r>|<ul>|"},
		{"\u00a0<l>\u2003<r>\u3000x", "<l>|\u2003|<r>|x"},
		{"<r> \n", "<r>|"},
	} {
		var want []int32
		for part := range strings.SplitSeq(test.want, "|") {
			if i := slices.Index(names, part); i >= 0 && strings.Contains(test.want, part+"|") {
				want = append(want, 1000+int32(i))
				continue
			}
			for _, b := range []byte(part) {
				want = append(want, int32(b))
			}
		}
		got, err := n.Tokenize(test.text, false, true)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v, %v", test.text, got, want, err)
		}
	}
	if got, err := n.Tokenize("a <ul> <l>", false, false); err != nil || !slices.Equal(got, []int32{'a', 1004, ' ', '<', 'l', '>'}) {
		t.Errorf("special tokens as text: %v, %v", got, err)
	}
}
