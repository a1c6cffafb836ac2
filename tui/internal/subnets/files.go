package subnets

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// SendFile sends a form's command that writes a file. Where the file exists it asks before it sends the command that replaces it. path is the
// file as it was entered, to name it in messages.
func SendFile(host screen.Host, f *widget.Form, path string, command func(replace bool) explorer.Command) tea.Cmd {
	waits := func(r explorer.Receipt) tea.Cmd {
		host.Close(f)
		j, ok := host.Snapshot().Job(r.Job)
		name := text.Line(filepath.Base(path))
		switch waits := host.Snapshot().Awaits(j); {
		case !ok || j.State.Ended(): // its outcome is on the screen already
		case waits != "":
			host.Note(explorer.Info, name+" waits for "+text.Line(waits)+"; "+host.Key("jobs")+" lists the jobs")
		default:
			host.Note(explorer.Info, "writing "+name+in(host, path))
		}
		return nil
	}
	return host.Try(command(false), waits, func(err error) bool {
		f.Reject(err)
		if errors.Is(err, explorer.ErrExists) && host.Shows(f) {
			replaces(host, err, func() tea.Cmd { return f.Send(host, command(true), waits) })
		}
		return host.Shows(f) // otherwise the error becomes a message
	})
}

// replaces asks whether an existing file may be replaced, and runs a function if so.
func replaces(host screen.Host, exists error, run func() tea.Cmd) {
	host.Open(&widget.Question{Title: "replace", Text: text.Line(format.Error(exists)) + ". What it holds is lost.", Yes: "replace it", Sure: true, Run: run})
}

// in names the folder of a path behind the name of the file: " in /home/ada"; "" where it is unknown.
func in(host screen.Host, path string) string {
	if folder := folderOf(host.Folder(), path); folder != "" {
		return " in " + text.Line(folder)
	}
	return ""
}

// Wrote describes a file or folder that was written: its size, 0 where that is not known, and where it is.
func Wrote(host screen.Host, path string, bytes int64) string {
	size := ""
	if bytes > 0 {
		size = " (" + format.Bytes(bytes) + ")"
	}
	return "wrote " + text.Line(filepath.Base(path)) + size + in(host, path)
}

// ExportText offers to copy a text or, where files may be written, to save it under a name.
func ExportText(host screen.Host, what, name, content string) tea.Cmd {
	off := ""
	if !host.WritesFiles() {
		off = "files cannot be written from this session"
	}
	ext := filepath.Ext(name)
	write := func() tea.Cmd {
		path := widget.TextEntry("path", "file", fileName(strings.TrimSuffix(name, ext))+ext, "a file on the machine that runs lathe", widget.NeedText)
		note := func(f *widget.Form) string {
			if folder := folderOf(host.Folder(), f.Get("path")); folder != "" {
				return "Folder: " + text.Line(folder)
			}
			return ""
		}
		return host.Open(&widget.Form{Title: "write the " + what, OK: "write", Stays: true, NoteOf: note, Entries: []*widget.Entry{path},
			Submit: func(f *widget.Form) tea.Cmd { return writeFile(f, ExpandHome(f.Get("path")), content, false) }})
	}
	return host.Open(&widget.Picker{Title: "export the " + what, Choices: func() []widget.Choice {
		return []widget.Choice{
			{Title: "copy", Detail: "to the terminal's clipboard", Run: func() tea.Cmd { return host.Copy(content, "the "+what) }},
			{Title: "write a file", Off: off, Run: write},
		}
	}})
}

// A WroteMsg is the outcome of writing a file that a form asked for.
type WroteMsg struct {
	form          *widget.Form
	path, content string
	err           error
}

// Take closes the form and reports the file, or shows in the form why there is none. Where the file exists it asks whether to replace it.
func (m WroteMsg) Take(host screen.Host) tea.Cmd {
	if m.err == nil {
		host.Close(m.form)
		host.Note(explorer.Info, Wrote(host, m.path, int64(len(m.content))))
		return nil
	}
	if !host.Shows(m.form) {
		host.Fail(m.err)
		return nil
	}
	m.form.Reject(m.err)
	if errors.Is(m.err, fs.ErrExist) {
		replaces(host, m.err, func() tea.Cmd { return writeFile(m.form, m.path, m.content, true) })
	}
	return nil
}

// writeFile writes a file, a new one unless it may replace another.
func writeFile(f *widget.Form, path, content string, replace bool) tea.Cmd {
	write := durable.WriteNew
	if replace {
		write = durable.WriteFile
	}
	return func() tea.Msg { return WroteMsg{f, path, content, write(path, []byte(content), 0o644)} }
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
	return cmp.Or(strings.Trim(s, "-."), "lathe")
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
