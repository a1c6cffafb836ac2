package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/search/remote"
)

// FuzzPassage reads altered passages, as workers get them: they are refused, or all their tokens are the model's.
func FuzzPassage(f *testing.F) {
	for _, p := range []storedPassage{
		{Windows: [][]int32{{1, 2, 3}, {4, 5, 6}}}, {Windows: [][]int32{{1, 2, 3}}, From: []int{2}}, {Windows: [][]int32{{0, 1}}, Kept: []int{3, 9}},
	} {
		data, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"Windows":[[1,-1]]}`))
	f.Add([]byte(`{"Windows":[[1,2]],"From":[5]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		const vocab = 32
		p, err := parsePassage(data, vocab)
		if err != nil {
			if !errors.Is(err, errPiece) {
				t.Error(err)
			}
			return
		}
		all := vocab
		if p.Kept != nil {
			all = len(p.Kept)
		}
		for _, w := range (passage{windows: p.Windows, from: p.From}).scored() {
			if w.From < 1 || w.From >= len(w.Tokens) {
				t.Errorf("a window of %d tokens from %d", len(w.Tokens), w.From)
			}
			for _, token := range w.Tokens {
				if token < 0 || int(token) >= all {
					t.Errorf("token %d of %d", token, all)
				}
			}
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parsePassage(again, vocab); err != nil || !reflect.DeepEqual(same.Windows, p.Windows) {
			t.Errorf("%v, %v", same, err)
		}
	})
}

// TestPiecesAreChecked has a worker do pieces that cannot be ones of its search: each ends with an error that names what is wrong, and nothing is written.
func TestPiecesAreChecked(t *testing.T) {
	e := newEngine(t)
	device, err := e.open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(device.Close)
	model := gguftest.Write(t, gguftest.Tiny("llama"))
	s, err := e.openScorer(t.Context(), device, remote.Spec{}, remote.Opened{Model: model}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte(`{"Windows":[[1,999999]],"Name":"piqa","Items":[{"Gold":3}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		kind, settings string
		files          []string
		want           string
	}{
		{"shell", `"rm"`, nil, `its kind is "shell"`},
		{pieceLevels, `{}`, nil, "0 files, not 1"},
		{pieceLevels, `{"Slot":99}`, []string{junk}, "Slot 99 of 6"},
		{pieceLevels, `{"Slot":1,"Key":"00112233445566778899aabbccddeeff","Lambda":0.1,"Tokens":1,"Order":[0]}`, []string{junk}, "Order has 1 of 128 units"},
		{pieceSensitivity, `{"Slot":1}`, nil, "there are no levels"},
		{pieceStatistics, `{"Layer":1}`, nil, "there is no text"},
		{pieceStatistics, `{"Layer":"x"}`, nil, "piece of work: json"},
		{piecePerplexity, `{}`, []string{junk, junk}, "Windows[0][1] is 999999"},
		{piecePerplexity, `{"Reference":true}`, []string{junk, junk}, "2 files, not 3"},
		{pieceZeroShot, `{}`, []string{junk, model}, "choice 3 of 0 is correct"},
	} {
		dir := t.TempDir()
		_, err := s.Do(t.Context(), remote.Piece{Kind: test.kind, Settings: []byte(test.settings)}, test.files, dir)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: error %v", test.kind, test.settings, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s %s: %d files are left: %v", test.kind, test.settings, len(left), err)
		}
	}
}
