package tui

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

// exportForm asks where and how to write a subnet: as a GGUF file, or as a recipe to make the same file elsewhere.
func (m *Model) exportForm(id explorer.SubnetID) tea.Cmd {
	masks, ok := masksOf(m.snap, id)
	if !ok {
		return nil
	}
	types := []string{"as the source", "F32", "F16", "Q8_0", "Q4_1", "Q4_0"}
	note := fmt.Sprintf("%s: about %s as %s", subnetName(m.snap, id), text.Bytes(float64(m.cost(masks).bytes)), m.snap.Model.FileType)
	return m.openForm(&form{title: "export", ok: "write", note: note, entries: []*entry{
		choiceEntry("what", "what", "GGUF file", "a recipe holds masks, settings and hashes, no weights: it makes the same file elsewhere", "GGUF file", "recipe"),
		choiceEntry("type", "type", "as the source", "what the matrices are stored as", types...),
		textEntry("path", "file", fileName(subnetName(m.snap, id)), "on the machine lathe runs on; .gguf or .recipe is added where it has no ending", needText),
	}, submit: func(m *Model, f *form) tea.Cmd {
		path, typ := expandHome(f.get("path")), exportType(f.get("type"))
		recipe := f.get("what") == "recipe"
		var c explorer.Command
		if recipe {
			path = withEnding(path, ".recipe")
			c = explorer.ExportRecipe{Subnet: id, Path: path, Type: typ}
		} else {
			path = withEnding(path, ".gguf")
			c = explorer.Export{Subnet: id, Path: path, Type: typ}
		}
		return m.do(c, func(m *Model, r explorer.Receipt) tea.Cmd {
			if j, _ := m.snap.Job(r.Job); !j.State.Ended() { // what it came to is said already
				m.say(levelInfo, "writing "+path)
			}
			return nil
		})
	}})
}

// exportText offers to copy a text or, where files may be written, to save it.
func (m *Model) exportText(what, name, content string) tea.Cmd {
	return m.pick("export the "+what, func(m *Model) []choice {
		off := ""
		if !m.opts.Files {
			off = "files cannot be written from this session"
		}
		return []choice{
			{title: "copy", detail: "to the terminal's clipboard", run: func(m *Model) tea.Cmd { return m.copy(content, "the "+what) }},
			{title: "write a file", off: off, run: func(m *Model) tea.Cmd {
				base := strings.TrimSuffix(name, filepath.Ext(name))
				return m.openForm(&form{title: "write the " + what, ok: "write", entries: []*entry{textEntry("path", "file", fileName(base)+filepath.Ext(name), "an existing file is not overwritten", needText)},
					submit: func(_ *Model, f *form) tea.Cmd { return writeFile(expandHome(f.get("path")), content) }})
			}},
		}
	})
}

// wroteMsg is the outcome of writing a file.
type wroteMsg struct {
	path string
	err  error
}

// writeFile writes a new file.
func writeFile(path, content string) tea.Cmd {
	return func() tea.Msg {
		return wroteMsg{path, durable.WriteNew(path, []byte(content), 0o644)}
	}
}

// fileName makes a name fit for a file.
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

// expandHome replaces a leading ~/ by the user's home folder.
func expandHome(path string) string {
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

// dateLabel is a moment in the form of lists: "24 Nov 09:12".
func dateLabel(t time.Time) string {
	if t.IsZero() {
		return text.None
	}
	return t.Local().Format("2 Jan 15:04")
}
