package explorer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer/internal/workspace"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// small is a model of two layers for fuzzing.
func small() *subnet.Geometry {
	l := subnet.LayerGeometry{Heads: 2, KVHeads: 1, FFN: 32}
	return &subnet.Geometry{Arch: "llama", Hidden: 8, Vocab: 16, HeadDim: 4, Layers: []subnet.LayerGeometry{l, l}}
}

// FuzzJournal opens journals of any records, whose checksums are right: no panic, and what could be read can be written
// and read again.
func FuzzJournal(f *testing.F) {
	g := small()
	text, err := subnet.Dense(g).MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	name := "x"
	for _, records := range [][]record{
		{{Draft: &draftRecord{Op: opCheckout, Base: DenseID, Masks: string(text)}}, {Draft: &draftRecord{Op: opStep, Layers: []string{subnet.Dense(g).LayerText(0)}}}, {Draft: &draftRecord{Op: opUndo}}},
		{{Subnet: &subnetRecord{ID: "s1", Name: "a", Masks: string(text)}}, {Change: &changeRecord{Subnet: "s1", Name: &name}}, {Purge: []SubnetID{"s1"}}},
		{{Chat: &Chat{ID: "c1", Prompts: []Prompt{{Text: "a"}}, Columns: []Column{{Replies: []Reply{{Streaming: true}}}}}}, {DropChat: "c1"}, {Bench: &Bench{ID: "b1"}}, {Serial: &serials{1, 2, 3}}},
		{{Measured: &measuredRecord{Subnet: DenseID}}, {Compared: &comparedRecord{Estimated: 1, Measured: 2}}},
	} {
		var b []byte
		for _, r := range records {
			text, err := json.Marshal(r)
			if err != nil {
				f.Fatal(err)
			}
			b = append(append(b, text...), '\n')
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), workspace.JournalFile)
		var lines []byte
		for line := range bytes.Lines(content) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			lines = fmt.Appendf(lines, "%08x %s\n", crc32.ChecksumIEEE(line), line)
		}
		if err := os.WriteFile(path, lines, 0o644); err != nil {
			t.Fatal(err)
		}
		read := func(path string) *state {
			s := &state{now: &Snapshot{Model: ModelInfo{FileType: "F16", Geometry: g}, Draft: Draft{Masks: subnet.Dense(g)}}}
			if _, _, _, err := workspace.ReadJournal(path, func(r record) error { _, err := s.fold(r); return err }); err != nil {
				t.Fatal(err)
			}
			s.derive()
			s.now.Chats = settled(s.now.Chats)
			return s
		}
		s := read(path)
		records, err := s.records()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := workspace.RewriteJournal(path, records); err != nil {
			t.Fatal(err)
		}
		again := read(path)
		if len(again.now.Subnets) != len(s.now.Subnets) || len(again.now.Trash) != len(s.now.Trash) || len(again.now.Chats) != len(s.now.Chats) ||
			!again.now.Draft.Masks.Equal(s.now.Draft.Masks) || len(again.now.Draft.Steps) != len(s.now.Draft.Steps) {
			t.Error("a rewritten journal leads to another state")
		}
	})
}

// FuzzRecipe reads recipes with any content.
func FuzzRecipe(f *testing.F) {
	g := small()
	text, err := subnet.Dense(g).MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteRecipe(&b, Recipe{Format: recipeFormat, Masks: string(text)}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		if r, masks, err := ReadRecipe(bytes.NewReader(content), g); err == nil && (r.Format != recipeFormat || masks.Layers() != 2) {
			t.Errorf("recipe %+v", r)
		}
	})
}
