package subnets

import (
	"cmp"
	"fmt"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/convert"
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
	named := func(f *widget.Form) string { return suggested(Name(snap, id), snap.Model.Type(), f) }
	to := widget.TextEntry("path", "to", fileName(Name(snap, id))+".gguf", "a file on the machine that runs lathe; .gguf or .recipe is added to a name without an ending", widget.NeedText)
	to.Follows = named
	return host.Open(&widget.Form{Title: "export", OK: "write", Stays: true, NoteOf: note, Entries: []*widget.Entry{
		widget.ChoiceEntry("what", "what", asFile, help, forms...),
		file, folder, to,
	}, Submit: func(f *widget.Form) tea.Cmd {
		path := ExpandHome(f.Get("path"))
		if ending := endingOf(f); ending != "" {
			path = withEnding(path, ending)
		}
		return SendFile(host, f, path, func(replace bool) explorer.Command {
			switch f.Get("what") {
			case asRecipe:
				return explorer.ExportRecipe{Subnet: id, Path: path, Type: TypeOf(f), Replace: replace}
			case asFolder:
				return explorer.Export{Subnet: id, Path: path, Type: typeIn(f, "folder-type"), As: explorer.AsFolder}
			}
			return explorer.Export{Subnet: id, Path: path, Type: TypeOf(f), Replace: replace}
		})
	}})
}

// endingOf is the ending of what the form writes, "" for a folder.
func endingOf(f *widget.Form) string {
	switch f.Get("what") {
	case asRecipe:
		return ".recipe"
	case asFolder:
		return ""
	}
	return ".gguf"
}

// suggested is a name for what a form writes of a subnet: with the type, unless it is the source's, so that files of different types have different names.
func suggested(name, source string, f *widget.Form) string {
	typ := TypeOf(f)
	if f.Get("what") == asFolder {
		typ = typeIn(f, "folder-type")
	}
	name = fileName(name)
	if typ != "" && typ != source {
		name += "-" + typ
	}
	return name + endingOf(f)
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
