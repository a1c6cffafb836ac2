package subnets

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Export asks where and how to write a subnet: as a GGUF file, or as a recipe to make the same file elsewhere.
func Export(host screen.Host, id explorer.SubnetID) tea.Cmd {
	snap := host.Snapshot()
	if _, ok := Masks(snap, id); !ok {
		return nil
	}
	note := func(f *widget.Form) string {
		typ := TypeOf(f)
		return fmt.Sprintf("%s: %s as %s", Name(snap, id), text.BytesOr(snap.ExportBytes(id, typ)), cmp.Or(typ, snap.Model.Type()))
	}
	return host.Open(&widget.Form{Title: "export", OK: "write", NoteOf: note, Entries: []*widget.Entry{
		widget.ChoiceEntry("what", "what", "GGUF file", "a recipe contains masks, settings and hashes, no weights: it makes the same file elsewhere", "GGUF file", "recipe"),
		TypeEntry("type of the matrices in the file", "F32", "F16", "Q8_0", "Q4_1", "Q4_0"),
		widget.TextEntry("path", "file", fileName(Name(snap, id)), "on the machine that runs lathe; .gguf or .recipe is added to a name without an ending", widget.NeedText),
	}, Submit: func(f *widget.Form) tea.Cmd {
		path, typ := ExpandHome(f.Get("path")), TypeOf(f)
		recipe := f.Get("what") == "recipe"
		var c explorer.Command
		if recipe {
			path = withEnding(path, ".recipe")
			c = explorer.ExportRecipe{Subnet: id, Path: path, Type: typ}
		} else {
			path = withEnding(path, ".gguf")
			c = explorer.Export{Subnet: id, Path: path, Type: typ}
		}
		return host.Do(c, func(r explorer.Receipt) tea.Cmd {
			if j, _ := host.Snapshot().Job(r.Job); !j.State.Ended() { // otherwise its outcome is on the screen already
				host.Note(explorer.Info, "writing "+path)
			}
			return nil
		})
	}})
}

// sourceType is the choice that keeps the types of the source.
const sourceType = "as the source"

// TypeEntry is an entry for the ggml type of written matrices, which [TypeOf] reads.
func TypeEntry(help string, types ...string) *widget.Entry {
	return widget.ChoiceEntry("type", "type", sourceType, help, append([]string{sourceType}, types...)...)
}

// TypeOf returns the ggml type chosen in a form with a [TypeEntry]; "" is that of the source.
func TypeOf(f *widget.Form) string {
	if typ := f.Get("type"); typ != sourceType {
		return typ
	}
	return ""
}

// ExportText offers to copy a text or, where files may be written, to save it under a name.
func ExportText(host screen.Host, what, name, content string) tea.Cmd {
	off := ""
	if !host.WritesFiles() {
		off = "files cannot be written from this session"
	}
	ext := filepath.Ext(name)
	write := func() tea.Cmd {
		path := widget.TextEntry("path", "file", fileName(strings.TrimSuffix(name, ext))+ext, "an existing file is not overwritten", widget.NeedText)
		return host.Open(&widget.Form{Title: "write the " + what, OK: "write", Entries: []*widget.Entry{path},
			Submit: func(f *widget.Form) tea.Cmd { return writeFile(ExpandHome(f.Get("path")), content) }})
	}
	return host.Open(&widget.Picker{Title: "export the " + what, Choices: func() []widget.Choice {
		return []widget.Choice{
			{Title: "copy", Detail: "to the terminal's clipboard", Run: func() tea.Cmd { return host.Copy(content, "the "+what) }},
			{Title: "write a file", Off: off, Run: write},
		}
	}})
}

// A WroteMsg is the outcome of writing a file.
type WroteMsg struct {
	Path string
	Err  error
}

// writeFile writes a new file.
func writeFile(path, content string) tea.Cmd {
	return func() tea.Msg {
		return WroteMsg{path, durable.WriteNew(path, []byte(content), 0o644)}
	}
}

// fileName replaces the characters of a name that file systems or shells treat specially.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, s)
	s = strings.Trim(s, "-.")
	if s == "" {
		return "lathe"
	}
	return s
}

// withEnding adds an ending to a path that has none.
func withEnding(path, ending string) string {
	if filepath.Ext(path) == "" {
		return path + ending
	}
	return path
}

// ExpandHome replaces a leading ~/ by the user's home folder.
func ExpandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}
