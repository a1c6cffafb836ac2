package subnets

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// What a subnet can be exported as.
const (
	asFile   = "GGUF file"
	asFolder = "HF folder"
	asRecipe = "recipe"
)

// Export asks where and how to write a subnet: as a GGUF file, as a folder for transformers, or as a recipe to make the same
// subnet elsewhere.
func Export(host screen.Host, id explorer.SubnetID) tea.Cmd {
	snap := host.Snapshot()
	if _, ok := Masks(snap, id); !ok {
		return nil
	}
	unfitted := ""
	if n, ok := snap.Subnet(id); ok {
		if other, ok := snap.Refitted(n); ok {
			unfitted = ". It is not re-fitted; " + text.Line(other.Name) + " has the same masks, re-fitted"
		}
	}
	note := func(f *widget.Form) string {
		in := ""
		if folder := folderOf(host.Folder(), f.Get("path")); folder != "" {
			in = ". Folder: " + text.Line(folder)
		}
		if f.Get("what") == asFolder {
			return Name(snap, id) + unfitted + in
		}
		typ := TypeOf(f)
		return fmt.Sprintf("%s: %s as %s", Name(snap, id), text.BytesOr(snap.ExportBytes(id, typ)), cmp.Or(typ, snap.Model.Type())) + unfitted + in
	}
	forms, help := []string{asFile, asFolder}, "HF folder: config.json, safetensors and tokenizer, for transformers; "
	if err := snap.HasRecipe(id); err == nil {
		forms, help = append(forms, asRecipe), help+"recipe: masks, settings and hashes, no weights"
	} else {
		help += "no recipe: " + text.Line(format.Error(err))
	}
	folder := typeEntry("folder-type", "type of the tensors in the folder; as the source: the nearest of them", convert.FolderTypes())
	file := TypeEntry("type of the matrices in the file", gguf.WritableNames()...)
	file.Hidden = func(f *widget.Form) bool { return f.Get("what") == asFolder }
	folder.Hidden = func(f *widget.Form) bool { return f.Get("what") != asFolder }
	return host.Open(&widget.Form{Title: "export", OK: "write", Stays: true, NoteOf: note, Entries: []*widget.Entry{
		widget.ChoiceEntry("what", "what", asFile, help, forms...),
		file, folder,
		widget.TextEntry("path", "to", fileName(Name(snap, id)), "a file on the machine that runs lathe; .gguf or .recipe is added to a name without an ending", widget.NeedText),
	}, Submit: func(f *widget.Form) tea.Cmd {
		path := ExpandHome(f.Get("path"))
		var c explorer.Command
		switch f.Get("what") {
		case asRecipe:
			path = withEnding(path, ".recipe")
			c = explorer.ExportRecipe{Subnet: id, Path: path, Type: TypeOf(f)}
		case asFolder:
			c = explorer.Export{Subnet: id, Path: path, Type: typeIn(f, "folder-type"), As: explorer.AsFolder}
		default:
			path = withEnding(path, ".gguf")
			c = explorer.Export{Subnet: id, Path: path, Type: TypeOf(f)}
		}
		return f.Send(host, c, func(r explorer.Receipt) tea.Cmd {
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
func TypeEntry(help string, types ...string) *widget.Entry { return typeEntry("type", help, types) }

func typeEntry(id, help string, types []string) *widget.Entry {
	return widget.ChoiceEntry(id, "type", sourceType, help, append([]string{sourceType}, types...)...)
}

// TypeOf returns the ggml type chosen in a form with a [TypeEntry]; "" is that of the source.
func TypeOf(f *widget.Form) string { return typeIn(f, "type") }

func typeIn(f *widget.Form, id string) string {
	if typ := f.Get(id); typ != sourceType {
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
		note := func(f *widget.Form) string {
			if folder := folderOf(host.Folder(), f.Get("path")); folder != "" {
				return "Folder: " + text.Line(folder)
			}
			return ""
		}
		return host.Open(&widget.Form{Title: "write the " + what, OK: "write", NoteOf: note, Entries: []*widget.Entry{path},
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

// folderOf returns the folder that a path is in, seen from another folder; "" where that is unknown.
func folderOf(here, path string) string {
	path = ExpandHome(path)
	if !filepath.IsAbs(path) {
		if here == "" {
			return ""
		}
		path = filepath.Join(here, path)
	}
	return filepath.Dir(path)
}

// withEnding adds an ending to a path that has none: what follows the last dot of "cut 0.80 s1" is none.
func withEnding(path, ending string) string {
	ext := strings.TrimPrefix(filepath.Ext(path), ".")
	if ext == "" || strings.ContainsFunc(ext, func(r rune) bool { return !unicode.IsLetter(r) }) {
		return strings.TrimSuffix(path, ".") + ending
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
