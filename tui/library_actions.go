package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

func libraryActions() []*action {
	none := func(m *Model) string {
		if len(m.snap.Subnets) == 0 {
			return "the library is empty"
		}
		return ""
	}
	run := func(f func(s *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd) func(*Model) tea.Cmd {
		return func(m *Model) tea.Cmd {
			n, _ := m.library().selected(m)
			return f(m.library(), m, n)
		}
	}
	move := func(by int) func(*Model) tea.Cmd {
		return func(m *Model) tea.Cmd { return m.library().move(m, by) }
	}
	return []*action{
		{id: "library.details", scope: onLibrary, keys: []string{"enter"}, title: "Show everything known about the subnet", short: "details", when: none,
			run: func(m *Model) tea.Cmd { return m.library().details(m) }},
		{id: "library.chat", scope: onLibrary, keys: []string{"c"}, title: "Chat with the subnet, beside the dense model", short: "chat", changes: true, engine: true, when: none,
			run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd { return m.chatWith(n.ID) })},
		{id: "library.edit", scope: onLibrary, keys: []string{"m"}, title: "Edit the subnet's masks", short: "masks", changes: true, when: none,
			run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd { return m.editMasks(n.ID) })},
		{id: "library.export", scope: onLibrary, keys: []string{"e"}, title: "Export the subnet as a GGUF file or as a recipe", short: "export", changes: true, when: none,
			run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd { return m.exportForm(n.ID) })},
		{id: "library.mark", scope: onLibrary, keys: []string{"space"}, title: "Mark the subnet, for comparisons and benchmarks", short: "mark", when: none,
			run: run(func(s *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
				if s.marked[n.ID] {
					delete(s.marked, n.ID)
				} else {
					s.marked[n.ID] = true
				}
				return s.move(m, 1)
			})},
		{id: "library.compare", scope: onLibrary, keys: []string{"="}, title: "Compare two subnets", short: "compare", when: none, help: "The two marked, the one marked with the one under the cursor, or one to choose.",
			run: run((*libraryScreen).compareKey)},
		{id: "library.bench", scope: onLibrary, keys: []string{"b"}, title: "Benchmark the marked subnets against the dense model", short: "bench", changes: true, engine: true, when: none,
			run: func(m *Model) tea.Cmd { return m.bench().form(m, m.library().markedOrChosen(m)) }},
		{id: "library.reform", scope: onLibrary, keys: []string{"r"}, title: "Re-fit the subnet's weights", short: "reform", changes: true, when: none,
			run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd { return m.reform().of(m, n.ID) })},
		{id: "library.measure", scope: onLibrary, keys: []string{"p"}, title: "Measure the subnet's perplexity", short: "measure", changes: true, when: none,
			run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd { return m.measure(n.ID) })},
		{id: "library.measureon", scope: onLibrary, keys: []string{"P"}, title: "Measure the perplexity on a text of your own", changes: true, when: none,
			run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
				return m.openForm(measureForm(text.Line(n.Name), n.ID))
			})},
		{id: "library.rename", scope: onLibrary, keys: []string{"R"}, title: "Rename the subnet", changes: true, when: none, run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
			return m.openForm(&form{title: "rename", ok: "rename", entries: []*entry{textEntry("name", "name", n.Name, "", needText)}, submit: func(m *Model, f *form) tea.Cmd {
				return m.do(explorer.RenameSubnet{Subnet: n.ID, Name: f.get("name")}, nil)
			}})
		})},
		{id: "library.note", scope: onLibrary, keys: []string{"n"}, title: "Write a note on the subnet", changes: true, when: none, run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
			return m.openForm(&form{title: "note on " + text.Line(n.Name), ok: "keep", entries: []*entry{textEntry("note", "note", n.Note, "", nil)}, submit: func(m *Model, f *form) tea.Cmd {
				return m.do(explorer.AnnotateSubnet{Subnet: n.ID, Note: f.get("note")}, nil)
			}})
		})},
		{id: "library.duplicate", scope: onLibrary, keys: []string{"d"}, title: "Duplicate the subnet", changes: true, when: none, run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
			return m.openForm(&form{title: "duplicate", ok: "duplicate", entries: []*entry{textEntry("name", "name", n.Name+" copy", "of the copy", needText)}, submit: func(m *Model, f *form) tea.Cmd {
				return m.do(explorer.DuplicateSubnet{Subnet: n.ID, Name: f.get("name")}, nil)
			}})
		})},
		{id: "library.delete", scope: onLibrary, keys: []string{"x", "delete"}, title: "Delete the marked subnets; undo brings them back", short: "delete", changes: true, when: none, run: func(m *Model) tea.Cmd { return m.library().remove(m) }},
		{id: "library.empty", scope: onLibrary, title: "Empty the trash for good", changes: true, when: func(m *Model) string {
			if len(m.snap.Trash) == 0 {
				return "the trash is empty"
			}
			return ""
		}, run: func(m *Model) tea.Cmd {
			return m.ask("trash", fmt.Sprintf("%d deleted %s and their weights are gone for good.", len(m.snap.Trash), plural(len(m.snap.Trash), "subnet", "subnets")), "empty it",
				func(m *Model) tea.Cmd { return m.do(explorer.EmptyTrash{}, nil) })
		}},
		{id: "library.sort", scope: onLibrary, keys: []string{"s"}, title: "Sort by the next column", short: "sort", when: none, run: func(m *Model) tea.Cmd {
			s := m.library()
			s.sort = (s.sort + 1) % libraryColumns
			s.follow(m)
			return nil
		}},
		{id: "library.reverse", scope: onLibrary, keys: []string{"S"}, title: "Reverse the order", when: none, run: func(m *Model) tea.Cmd {
			m.library().down = !m.library().down
			m.library().follow(m)
			return nil
		}},
		{id: "library.import", scope: onLibrary, keys: []string{"i"}, title: "Import a cut model file or a recipe", changes: true, run: func(m *Model) tea.Cmd {
			return m.openForm(importForm())
		}},
		{id: "library.fit", scope: onLibrary, keys: []string{"f"}, title: "Find the best subnet for a memory size", short: "fit", run: func(m *Model) tea.Cmd { return m.library().fitForm(m) }},
		{id: "library.inject", scope: onLibrary, keys: []string{"A"}, title: "Drop the subnet into the running search", changes: true, when: func(m *Model) string {
			if why := none(m); why != "" {
				return why
			}
			if _, ok := m.search().job(m); !ok {
				return "no search runs"
			}
			return ""
		}, run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
			return m.do(explorer.Inject{Subnet: n.ID}, nil)
		})},
		{id: "library.copy", scope: onLibrary, keys: []string{"y"}, title: "Copy the subnet's masks as text", when: none, run: run(func(_ *libraryScreen, m *Model, n explorer.Subnet) tea.Cmd {
			b, err := n.Masks.MarshalText()
			if err != nil {
				m.fail(err)
				return nil
			}
			return m.copy(string(b), "masks of "+text.Line(n.Name))
		})},
		{id: "library.down", scope: onLibrary, keys: []string{"down", "j"}, title: "Next subnet", run: move(1)},
		{id: "library.up", scope: onLibrary, keys: []string{"up", "k"}, title: "Previous subnet", run: move(-1)},
		{id: "library.pagedown", scope: onLibrary, keys: []string{"pgdown"}, title: "Ten subnets on", run: move(10)},
		{id: "library.pageup", scope: onLibrary, keys: []string{"pgup"}, title: "Ten subnets back", run: move(-10)},
		{id: "library.first", scope: onLibrary, keys: []string{"home"}, title: "First subnet", run: move(-1 << 20)},
		{id: "library.last", scope: onLibrary, keys: []string{"end"}, title: "Last subnet", run: move(1 << 20)},
	}
}

// importForm asks for a file made elsewhere.
func importForm() *form {
	gguf := func(f *form) bool { return f.get("what") != "GGUF file" }
	recipe := func(f *form) bool { return f.get("what") == "GGUF file" }
	name := textEntry("name", "name", "", "empty: as the file", nil)
	name.hidden = gguf
	calibration := textEntry("text", "text", "", "calibration text, where it is not at the path that the recipe names", nil)
	to := textEntry("to", "write to", "", "GGUF file to make; empty only puts the subnet into the library", nil)
	calibration.hidden, to.hidden = recipe, recipe
	return &form{title: "import", ok: "import", note: "A GGUF file that was cut from this model, or a recipe for one.", entries: []*entry{
		textEntry("path", "file", "", "on the machine lathe runs on", needText), choiceEntry("what", "what", "GGUF file", "what is in the file", "GGUF file", "recipe"), name, calibration, to,
	}, submit: func(m *Model, f *form) tea.Cmd {
		if f.get("what") == "recipe" {
			return m.do(explorer.BuildRecipe{Path: expandHome(f.get("path")), Text: expandHome(f.get("text")), To: expandHome(f.get("to"))}, nil)
		}
		return m.do(explorer.ImportFile{Path: expandHome(f.get("path")), Name: f.get("name")}, nil)
	}}
}

// measureForm asks which text to take the perplexity on.
func measureForm(name string, id explorer.SubnetID) *form {
	return &form{title: "perplexity of " + name, ok: "measure", entries: []*entry{
		textEntry("text", "text", "", "a file or a folder; empty: the held-out end of the default text", nil),
		textEntry("seq", "window tokens", "2048", "tokens per window", countIn(2, 1<<20)),
		textEntry("windows", "windows", "4", "from the start of the text; empty: all of it", countIn(1, 1<<20)),
	}, submit: func(m *Model, f *form) tea.Cmd {
		return m.do(explorer.Measure{Subnet: id, Text: expandHome(f.get("text")), Seq: f.count("seq"), Windows: f.count("windows")}, nil)
	}}
}

// compareKey compares the two marked subnets, or asks for what is missing.
func (s *libraryScreen) compareKey(m *Model, n explorer.Subnet) tea.Cmd {
	ids := s.markedOrChosen(m)
	switch {
	case len(ids) == 2:
		return s.compare(m, ids[0], ids[1])
	case len(ids) > 2:
		m.say(levelInfo, "two subnets can be compared at once; more are marked")
		return nil
	case ids[0] != n.ID:
		return s.compare(m, ids[0], n.ID)
	}
	return m.pickSubnet("compare "+text.Line(n.Name)+" with", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, func(m *Model, id explorer.SubnetID) tea.Cmd { return s.compare(m, id, n.ID) })
}

// remove moves the marked subnets, or the one under the cursor, to the trash.
func (s *libraryScreen) remove(m *Model) tea.Cmd {
	ids := s.markedOrChosen(m)
	names := make([]string, len(ids))
	cmds := make([]tea.Cmd, len(ids))
	for i, id := range ids {
		names[i] = subnetName(m.snap, id)
		cmds[i] = m.do(explorer.DeleteSubnet{Subnet: id}, nil)
	}
	undo := m.keys.first(m.action("undo"))
	m.say(levelInfo, "deleted "+strings.Join(names, ", ")+"; "+undo+" brings it back")
	return tea.Sequence(cmds...)
}

// fitForm asks for a memory size and a context length and goes to the best subnet that runs in them.
func (s *libraryScreen) fitForm(m *Model) tea.Cmd {
	return m.openForm(&form{title: "fit my machine", ok: "find", note: "Weights, KV cache and working memory count.", entries: []*entry{
		textEntry("memory", "memory, MB", "150", "what the model may take", func(v string) error {
			if v == "" {
				return needText(v)
			}
			return numberIn(1, 1e8)(v)
		}),
		textEntry("context", "context, tokens", "2048", "how long chats get", countIn(1, 1<<24)),
	}, submit: func(m *Model, f *form) tea.Cmd {
		fit, err := explorer.FitMachine(m.snap, int64(f.number("memory")*1e6), max(1, f.count("context")))
		if err != nil {
			m.fail(err)
			return nil
		}
		said := fmt.Sprintf("%s needs %s", fit.Name, text.Bytes(float64(fit.Memory)))
		if fit.Relative > 0 {
			said += fmt.Sprintf(", %.2f × the perplexity of dense", fit.Relative)
		}
		m.say(levelInfo, said)
		switch {
		case fit.Candidate != 0:
			m.search().chosen = fit.Candidate
			m.search().follow(m)
			return m.show(searchID)
		case fit.Subnet != explorer.DenseID:
			s.chosen = fit.Subnet
			s.follow(m)
		}
		return nil
	}})
}
