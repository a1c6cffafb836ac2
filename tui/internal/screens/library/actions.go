package library

import (
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/search"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Actions returns the table of actions on the screen.
func (s *Screen) Actions() []*action.Action {
	none := func() string {
		if len(s.snap().Subnets) == 0 {
			return "the library is empty"
		}
		return ""
	}
	of := func(run func(n explorer.Subnet) tea.Cmd) func() tea.Cmd { // about the subnet under the cursor
		return func() tea.Cmd {
			n, _ := s.selected()
			return run(n)
		}
	}
	move := func(by int) func() tea.Cmd {
		return func() tea.Cmd { return s.move(by) }
	}
	return []*action.Action{
		{ID: "library.details", Keys: []string{"enter"}, Title: "Show all details of the subnet", Short: "details", When: none,
			Run: func() tea.Cmd { return s.details() }},
		{ID: "library.chat", Keys: []string{"c"}, Title: "Chat with the subnet, alongside the dense model", Short: "chat", Changes: true, Engine: true, When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd { return s.host.Ask(screen.ChatWith{Subnet: n.ID}) })},
		{ID: "library.edit", Keys: []string{"m"}, Title: "Edit the subnet's masks", Short: "masks", Changes: true, When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd { return s.host.Ask(screen.EditMasks{Subnet: n.ID}) })},
		{ID: "library.export", Keys: []string{"e"}, Title: "Export the subnet as a GGUF file, a Hugging Face folder or a recipe", Short: "export", Changes: true, When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd { return subnets.Export(s.host, n.ID) })},
		{ID: "library.mark", Keys: []string{"space"}, Title: "Mark the subnet, for what compares, benchmarks or deletes several", Short: "mark", When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd {
				if s.marked[n.ID] {
					delete(s.marked, n.ID)
				} else {
					s.marked[n.ID] = true
				}
				return s.move(1)
			})},
		{ID: "library.compare", Keys: []string{"="}, Title: "Compare two subnets", Short: "compare", When: none, Help: "The two marked subnets, the marked one and the one under the cursor, or one that you pick.",
			Run: of(s.compareKey)},
		{ID: "library.bench", Keys: []string{"b"}, Title: "Benchmark the marked subnets, or the one under the cursor, against the dense model", Short: "bench", Changes: true, Engine: true, When: none,
			Run: func() tea.Cmd { return s.host.Ask(screen.Benchmark{Subnets: s.Selection()}) }},
		{ID: "library.reform", Keys: []string{"r"}, Title: "Re-fit the subnet's weights", Short: "reform", Changes: true, When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd { return s.host.Ask(screen.Refit{Subnet: n.ID}) })},
		{ID: "library.measure", Keys: []string{"p"}, Title: "Measure the subnet's perplexity", Short: "measure", Changes: true, When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd { return subnets.Measure(s.host, n.ID) })},
		{ID: "library.measureon", Keys: []string{"P"}, Title: "Measure the perplexity on a text of your own", Changes: true, When: none,
			Run: of(func(n explorer.Subnet) tea.Cmd {
				return s.measureForm(text.Line(n.Name), n.ID)
			})},
		{ID: "library.rename", Keys: []string{"R"}, Title: "Rename the subnet", Changes: true, When: none, Run: of(func(n explorer.Subnet) tea.Cmd {
			return s.host.Open(&widget.Form{Title: "rename", OK: "rename", Entries: []*widget.Entry{widget.TextEntry("name", "name", n.Name, "", widget.NeedText)}, Submit: func(f *widget.Form) tea.Cmd {
				return s.host.Do(explorer.RenameSubnet{Subnet: n.ID, Name: f.Get("name")}, nil)
			}})
		})},
		{ID: "library.note", Keys: []string{"n"}, Title: "Write a note on the subnet", Changes: true, When: none, Run: of(func(n explorer.Subnet) tea.Cmd {
			return s.host.Open(&widget.Form{Title: "note on " + text.Line(n.Name), OK: "keep", Entries: []*widget.Entry{widget.TextEntry("note", "note", n.Note, "", nil)}, Submit: func(f *widget.Form) tea.Cmd {
				return s.host.Do(explorer.AnnotateSubnet{Subnet: n.ID, Note: f.Get("note")}, nil)
			}})
		})},
		{ID: "library.duplicate", Keys: []string{"d"}, Title: "Duplicate the subnet", Changes: true, When: none, Run: of(func(n explorer.Subnet) tea.Cmd {
			return s.host.Open(&widget.Form{Title: "duplicate", OK: "duplicate", Entries: []*widget.Entry{widget.TextEntry("name", "name", n.Name+" copy", "of the copy", widget.NeedText)}, Submit: func(f *widget.Form) tea.Cmd {
				return s.host.Do(explorer.DuplicateSubnet{Subnet: n.ID, Name: f.Get("name")}, nil)
			}})
		})},
		{ID: "library.delete", Keys: []string{"x", "delete"}, Title: "Delete the marked subnets, or the one under the cursor; undo restores them", Short: "delete", Changes: true, When: none, Run: func() tea.Cmd { return s.remove() }},
		{ID: "library.empty", Title: "Empty the trash permanently", Changes: true, When: func() string {
			if len(s.snap().Trash) == 0 {
				return "the trash is empty"
			}
			return ""
		}, Run: func() tea.Cmd {
			return widget.Ask(s.host, "trash", format.Counted(len(s.snap().Trash), "deleted subnet")+" and their weights are deleted permanently.", "empty it",
				func() tea.Cmd { return s.host.Do(explorer.EmptyTrash{}, nil) })
		}},
		{ID: "library.sort", Keys: []string{"s"}, Title: "Sort by the next column", Short: "sort", When: none, Run: func() tea.Cmd {
			s := s
			s.sort = (s.sort + 1) % libraryColumns
			s.Follow()
			return nil
		}},
		{ID: "library.reverse", Keys: []string{"S"}, Title: "Reverse the order", When: none, Run: func() tea.Cmd {
			s.down = !s.down
			s.Follow()
			return nil
		}},
		{ID: "library.import", Keys: []string{"i"}, Title: "Import a pruned model file or a recipe", Changes: true, Run: func() tea.Cmd {
			return s.importForm()
		}},
		{ID: "library.quantize", Keys: []string{"t"}, Title: "Choose types of matrices for a file size", Short: "types", Changes: true, Run: func() tea.Cmd { return s.quantizeForm() }},
		{ID: "library.fit", Keys: []string{"f"}, Title: "Find the best subnet for a memory size", Short: "fit", Run: func() tea.Cmd { return s.fitForm() }},
		{ID: "library.inject", Keys: []string{"A"}, Title: "Inject the subnet into the running search", Changes: true, When: func() string {
			if why := none(); why != "" {
				return why
			}
			if _, ok := subnets.Searching(s.snap()); !ok {
				return "no search runs"
			}
			return ""
		}, Run: of(func(n explorer.Subnet) tea.Cmd {
			return s.host.Do(explorer.Inject{Subnet: n.ID}, nil)
		})},
		{ID: "library.copy", Keys: []string{"y"}, Title: "Copy the subnet's masks as text", When: none, Run: of(func(n explorer.Subnet) tea.Cmd {
			return subnets.CopyMasks(s.host, n.Masks, "masks of "+text.Line(n.Name))
		})},
		{ID: "library.down", Keys: []string{"down", "j"}, Title: "Next subnet", Run: move(1)},
		{ID: "library.up", Keys: []string{"up", "k"}, Title: "Previous subnet", Run: move(-1)},
		{ID: "library.pagedown", Keys: []string{"pgdown", "ctrl+d"}, Title: "Ten subnets down", Run: move(10)},
		{ID: "library.pageup", Keys: []string{"pgup", "ctrl+u"}, Title: "Ten subnets up", Run: move(-10)},
		{ID: "library.first", Keys: []string{"home", "g"}, Title: "First subnet", Run: move(-1 << 20)},
		{ID: "library.last", Keys: []string{"end", "G"}, Title: "Last subnet", Run: move(1 << 20)},
	}
}

// importForm asks for a pruned model file or a recipe.
func (s *Screen) importForm() tea.Cmd {
	gguf := func(f *widget.Form) bool { return f.Get("what") != "GGUF file" }
	recipe := func(f *widget.Form) bool { return f.Get("what") == "GGUF file" }
	name := widget.TextEntry("name", "name", "", "of the subnet; empty: as the file", nil)
	name.Hidden = gguf
	calibration := widget.TextEntry("text", "text", "", "calibration text, if it is not there any more; empty: the path in the recipe", nil)
	to := widget.TextEntry("to", "write to", "", "GGUF file to write; empty: only add the subnet to the library", nil)
	calibration.Hidden, to.Hidden = recipe, recipe
	return s.host.Open(&widget.Form{Title: "import", OK: "import", Stays: true, Note: "A GGUF file pruned from this model, or a recipe for one.", Entries: []*widget.Entry{
		widget.TextEntry("path", "file", "", "on the machine that runs lathe", widget.NeedText), widget.ChoiceEntry("what", "what", "GGUF file", "what is in the file", "GGUF file", "recipe"), name, calibration, to,
	}, Submit: func(f *widget.Form) tea.Cmd {
		if f.Get("what") == "recipe" {
			c := explorer.BuildRecipe{Path: subnets.ExpandHome(f.Get("path")), Text: subnets.ExpandHome(f.Get("text")), To: subnets.ExpandHome(f.Get("to"))}
			if c.To == "" {
				return f.Send(s.host, c, nil)
			}
			return subnets.SendFile(s.host, f, c.To, func(replace bool) explorer.Command {
				c.Replace = replace
				return c
			})
		}
		return f.Send(s.host, explorer.ImportFile{Path: subnets.ExpandHome(f.Get("path")), Name: f.Get("name")}, nil)
	}})
}

// measureForm asks for the text to measure the perplexity on.
func (s *Screen) measureForm(name string, id explorer.SubnetID) tea.Cmd {
	against := widget.ToggleEntry("against", "against dense", id != explorer.DenseID, "KL and top-1 agreement with the dense model; takes twice as long")
	return s.host.Open(&widget.Form{Title: "perplexity of " + name, OK: "measure", Entries: []*widget.Entry{
		widget.TextEntry("text", "text", "", "a file or a folder; empty: the held-out end of the default text", nil),
		widget.TextEntry("seq", "window tokens", "2048", "tokens per window", widget.CountIn(2, 1<<20)),
		widget.TextEntry("windows", "windows", "4", "from the start of the text; empty: all of it", widget.CountIn(1, 1<<20)),
		widget.TextEntry("stride", "stride", "", "tokens from one window to the next; empty: windows do not overlap", widget.CountIn(1, 1<<20)),
		against,
	}, Submit: func(f *widget.Form) tea.Cmd {
		c := explorer.Measure{Subnet: id, Text: subnets.ExpandHome(f.Get("text")), Seq: f.Count("seq"), Windows: f.Count("windows"), Stride: f.Count("stride")}
		if f.Yes("against") {
			c.Against = explorer.AgainstDense
		}
		return s.host.Do(c, nil)
	}})
}

// compareKey compares the two marked subnets, or asks for the other one.
func (s *Screen) compareKey(n explorer.Subnet) tea.Cmd {
	ids := s.Selection()
	switch {
	case len(ids) == 2:
		return s.compare(ids[0], ids[1])
	case len(ids) > 2:
		s.host.Note(explorer.Info, "only two subnets can be compared; more are marked")
		return nil
	case ids[0] != n.ID:
		return s.compare(ids[0], n.ID)
	}
	return subnets.Pick(s.host, "compare "+text.Line(n.Name)+" with", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, func(id explorer.SubnetID) tea.Cmd { return s.compare(id, n.ID) })
}

// remove moves the marked subnets, or the one under the cursor, to the trash.
func (s *Screen) remove() tea.Cmd {
	ids := s.Selection()
	names := make([]string, len(ids))
	cmds := make([]tea.Cmd, len(ids))
	for i, id := range ids {
		names[i] = subnets.Name(s.snap(), id)
		cmds[i] = s.host.Do(explorer.DeleteSubnet{Subnet: id}, nil)
	}
	s.restored = nil // as after any step, there is nothing to redo
	undo := s.host.Key("undo")
	s.host.Note(explorer.Info, "deleted "+strings.Join(names, ", ")+"; "+undo+" restores it")
	return tea.Sequence(cmds...)
}

// fitForm asks for a memory size and a context length and goes to the best subnet that fits.
func (s *Screen) fitForm() tea.Cmd {
	finds := func(f *widget.Form) bool { return !makes(f) }
	target := subnets.TargetEntry("or a target", "", true)
	target.Hidden = makes
	vocab := widget.TextEntry("vocab", "vocabulary", s.defaultVocab(), "tokens to keep: auto (drops tokens if their bytes gain more elsewhere), a number such as 24000, or a share of the tokens of the calibration texts such as 0.999; empty: all", subnets.CheckVocab)
	vocab.Hidden = finds
	calibration := subnets.FitEntries()
	for _, e := range calibration {
		e.Hidden = finds
	}
	return s.host.Open(&widget.Form{Title: "fit my machine", OK: "start", Stays: true, NoteOf: s.fitNote, Entries: append([]*widget.Entry{
		widget.ChoiceEntry("does", "do", findsOne, "finds the best subnet of the library and the front, or makes a new one: widths, types and vocabulary are chosen for the memory", findsOne, makesOne),
		widget.TextEntry("memory", "memory, MB", "150", "available to the model", func(v string) error {
			if v == "" {
				return widget.NeedText(v)
			}
			return widget.NumberIn(1, 1e8)(v)
		}),
		widget.TextEntry("context", "context, tokens", "2048", "length of chats", widget.CountIn(1, 1<<24)),
		target, vocab,
	}, calibration...), Submit: func(f *widget.Form) tea.Cmd {
		if makes(f) {
			return s.makeFit(f)
		}
		s.host.Close(f)
		if t := subnets.TargetOf(f); t.Timed() { // measured once
			return s.host.Do(explorer.FindFit{Target: t}, nil)
		} else if t != (search.Target{}) {
			fit, err := s.snap().FitTarget(t)
			if err != nil {
				s.host.Fail(err)
				return nil
			}
			s.host.Note(explorer.Info, fitWords(fit, t))
			return s.showFit(fit)
		}
		fit, err := report.FitMachine(s.snap(), int64(f.Number("memory")*1e6), max(1, f.Count("context")))
		if err != nil {
			s.host.Fail(err)
			return nil
		}
		found := fmt.Sprintf("%s needs %s", fit.Name, format.Bytes(float64(fit.Memory)))
		if fit.Relative > 0 {
			found += fmt.Sprintf(", %.2f × the perplexity of dense", fit.Relative)
		}
		s.host.Note(explorer.Info, found)
		return s.showFit(fit.Fit)
	}})
}

// showFit goes to a subnet that was found.
func (s *Screen) showFit(f explorer.Fit) tea.Cmd {
	switch {
	case f.Candidate != 0:
		return s.host.Ask(screen.ShowCandidate{ID: f.Candidate})
	case f.Subnet != explorer.DenseID:
		s.chosen = f.Subnet
		s.Follow()
	}
	return nil
}

// fitWords describes a subnet that was found for a target.
func fitWords(f explorer.Fit, t search.Target) string {
	t.Value = f.Cost
	found := fmt.Sprintf("%s: %v", f.Name, t)
	if f.Relative > 0 {
		found += fmt.Sprintf(", %.2f × the perplexity of dense", f.Relative)
	}
	return found
}
