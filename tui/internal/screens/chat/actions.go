package chat

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/report"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Actions returns the table of actions on the screen.
func (s *Screen) Actions() []*action.Action {
	none := func() string {
		if _, ok := s.current(s.snap()); !ok {
			return "there is no chat yet"
		}
		return ""
	}
	idle := func() string {
		c, ok := s.current(s.snap())
		switch {
		case !ok:
			return "there is no chat yet"
		case c.Busy:
			return "a reply is being generated"
		}
		return ""
	}
	noPrompt := func() string {
		if why := idle(); why != "" {
			return why
		}
		if c, _ := s.current(s.snap()); len(c.Prompts) == 0 {
			return "the chat has no prompts yet"
		}
		return ""
	}
	two := func() string {
		if c, _ := s.current(s.snap()); len(c.Columns) < 2 {
			return "there is only one column"
		}
		return ""
	}
	votable := func() string {
		if why := noPrompt(); why != "" {
			return why
		}
		return two()
	}
	return []*action.Action{
		{ID: "chat.write", Keys: []string{"enter", "i"}, Title: "Write a prompt", Short: "write", Changes: true, Engine: true, Help: "esc returns to the action keys.",
			Run: func() tea.Cmd { s.focused = true; return nil }},
		{ID: "chat.stop", Keys: []string{"x"}, Title: "Stop the reply", Short: "stop", Changes: true, Help: "esc does the same during a reply.",
			When: func() string {
				if c, ok := s.current(s.snap()); !ok || !c.Busy {
					return "no reply is being generated"
				}
				return ""
			},
			Run: func() tea.Cmd {
				c, _ := s.current(s.snap())
				return s.stopReply(c.ID)
			}},
		{ID: "chat.again", Keys: []string{"r", "ctrl+r"}, Title: "Regenerate the last reply with the next seed", Short: "regenerate", Changes: true, Engine: true, When: noPrompt,
			Run: func() tea.Cmd {
				c, _ := s.current(s.snap())
				return s.host.Do(explorer.Regenerate{Chat: c.ID}, nil)
			}},
		{ID: "chat.edit", Keys: []string{"e"}, Title: "Edit the last prompt and ask again", Short: "edit last", Changes: true, Engine: true, When: noPrompt, Run: s.editLast},
		{ID: "chat.new", Keys: []string{"n"}, Title: "New chat: the dense model and a subnet side by side", Short: "new", Changes: true, Engine: true, Run: s.newChat},
		{ID: "chat.probe", Keys: []string{"p"}, Title: "Probe: ask the built-in prompts of the dense model and a subnet", Short: "probe", Changes: true, Engine: true,
			Help: "A quick check of quality: each prompt by itself, the same seed, the most likely tokens; esc stops it.", Run: s.probe},
		{ID: "chat.list", Keys: []string{"l"}, Title: "Go to another chat", Short: "chats", When: none, Run: s.pickChat},
		{ID: "chat.columns", Keys: []string{"v"}, Title: "Compare the dense model with another subnet", Short: "subnet", Changes: true, When: idle, Run: func() tea.Cmd {
			c, _ := s.current(s.snap())
			return subnets.Pick(s.host, "compare the dense model with", []explorer.SubnetID{explorer.DraftID}, func(id explorer.SubnetID) tea.Cmd {
				return s.host.Do(explorer.SetColumns{Chat: c.ID, Subnets: []explorer.SubnetID{explorer.DenseID, id}}, nil)
			})
		}},
		{ID: "chat.add", Keys: []string{"+"}, Title: "Add a column", Changes: true, When: idle, Run: s.addColumn},
		{ID: "chat.remove", Keys: []string{"-"}, Title: "Remove the column under the cursor", Changes: true, When: func() string {
			if why := idle(); why != "" {
				return why
			}
			return two()
		}, Run: s.removeColumn},
		{ID: "chat.blind", Keys: []string{"b"}, Title: "Hide or reveal which column is which", Short: "blind", Changes: true, Help: "A blind comparison: two unnamed columns and your votes.",
			Label: func() string {
				if c, _ := s.current(s.snap()); c.Blind {
					return "reveal"
				}
				return "blind"
			}, When: func() string {
				if why := idle(); why != "" {
					return why
				}
				return two()
			}, Run: func() tea.Cmd {
				c, _ := s.current(s.snap())
				blind := !c.Blind
				return s.host.Do(explorer.ConfigureChat{Chat: c.ID, Blind: &blind}, nil)
			}},
		{ID: "chat.voteleft", Keys: []string{"<"}, Title: "Vote for the left column", Changes: true, When: votable, Run: func() tea.Cmd { return s.vote(0) }},
		{ID: "chat.voteright", Keys: []string{">"}, Title: "Vote for the right column", Changes: true, When: votable, Run: func() tea.Cmd { return s.vote(1) }},
		{ID: "chat.system", Keys: []string{"s"}, Title: "Change the system prompt", Short: "system", Changes: true, When: idle, Run: s.systemForm},
		{ID: "chat.sampling", Keys: []string{"t"}, Title: "Change temperature, seed, other sampling settings and layers on the GPU", Short: "sampling", Changes: true, When: idle, Run: s.samplingForm},
		{ID: "chat.next", Keys: []string{"tab"}, Title: "Next column", When: none, Run: func() tea.Cmd { return s.turn(1) }},
		{ID: "chat.previous", Keys: []string{"shift+tab"}, Title: "Previous column", When: none, Run: func() tea.Cmd { return s.turn(-1) }},
		{ID: "chat.alone", Keys: []string{"a"}, Title: "Show one column alone, or all", When: two, Run: func() tea.Cmd { s.alone = !s.alone; return nil }},
		{ID: "chat.differences", Keys: []string{"d"}, Title: "Show where the reply and the dense model differ, and what dense would have written", Short: "differences",
			When: func() string {
				return s.notCompared()
			}, Run: s.differences},
		{ID: "chat.shade", Keys: []string{"h"}, Title: "Shade words by their divergence from the dense model, or render Markdown", When: none, Label: func() string {
			if s.plain {
				return "shade words"
			}
			return "show Markdown"
		}, Help: "The first word at which the two models part is marked.",
			Run: func() tea.Cmd { s.plain = !s.plain; return nil }},
		{ID: "chat.rename", Keys: []string{"R"}, Title: "Rename the chat", Changes: true, When: none, Run: func() tea.Cmd {
			c, _ := s.current(s.snap())
			return s.host.Open(&widget.Form{Title: "rename the chat", OK: "rename", Entries: []*widget.Entry{widget.TextEntry("name", "name", c.Name, "", widget.NeedText)}, Submit: func(f *widget.Form) tea.Cmd {
				name := f.Get("name")
				return s.host.Do(explorer.ConfigureChat{Chat: c.ID, Name: &name}, nil)
			}})
		}},
		{ID: "chat.delete", Keys: []string{"D"}, Title: "Delete the chat", Changes: true, When: idle, Run: func() tea.Cmd {
			c, _ := s.current(s.snap())
			return widget.Ask(s.host, "delete", "The chat "+text.Line(c.Name)+" is deleted permanently.", "delete it", func() tea.Cmd { return s.host.Do(explorer.DeleteChat{Chat: c.ID}, nil) })
		}},
		{ID: "chat.export", Keys: []string{"w"}, Title: "Export the chat as Markdown", When: none, Run: s.export},
		{ID: "chat.copy", Keys: []string{"y"}, Title: "Copy the last reply of the column", When: noPrompt, Run: func() tea.Cmd {
			c, _ := s.current(s.snap())
			col := column(c, last(c), layout.Clamp(s.column, 0, len(c.Columns)-1))
			if len(col.Replies) == 0 {
				return nil
			}
			return s.host.Copy(text.Block(col.Replies[len(col.Replies)-1].Text), "the reply")
		}},
		{ID: "chat.down", Keys: []string{"down", "j"}, Title: "Scroll down", Run: func() tea.Cmd { return s.scroll(1) }},
		{ID: "chat.up", Keys: []string{"up", "k"}, Title: "Scroll up", Run: func() tea.Cmd { return s.scroll(-1) }},
		{ID: "chat.pagedown", Keys: []string{"pgdown", "ctrl+d"}, Title: "Scroll a page down", Run: func() tea.Cmd { return s.scroll(s.host.Body().H / 2) }},
		{ID: "chat.pageup", Keys: []string{"pgup", "ctrl+u"}, Title: "Scroll a page up", Run: func() tea.Cmd { return s.scroll(-s.host.Body().H / 2) }},
		{ID: "chat.first", Keys: []string{"home", "g"}, Title: "Scroll to the beginning", Run: func() tea.Cmd { return s.scroll(-1 << 20) }},
		{ID: "chat.last", Keys: []string{"end", "G"}, Title: "Scroll to the end", Run: func() tea.Cmd { return s.scroll(1 << 20) }},
	}
}

func (s *Screen) turn(by int) tea.Cmd {
	c, _ := s.current(s.snap())
	if n := len(c.Columns); n > 0 {
		s.column = ((s.column+by)%n + n) % n
	}
	return nil
}

func (s *Screen) editLast() tea.Cmd {
	c, _ := s.current(s.snap())
	s.prompt.Set(c.Prompts[len(c.Prompts)-1].Text)
	s.editing, s.focused = true, true
	return nil
}

func (s *Screen) newChat() tea.Cmd {
	return subnets.Pick(s.host, "chat with", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, func(id explorer.SubnetID) tea.Cmd {
		subnets := []explorer.SubnetID{explorer.DenseID}
		if id != explorer.DenseID {
			subnets = append(subnets, id)
		}
		return s.host.Do(explorer.OpenChat{Subnets: subnets}, func(r explorer.Receipt) tea.Cmd {
			s.enter(r.Chat)
			return nil
		})
	})
}

// probe asks which subnet to probe beside the dense model.
func (s *Screen) probe() tea.Cmd {
	return subnets.Pick(s.host, "probe", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, func(id explorer.SubnetID) tea.Cmd {
		columns := []explorer.SubnetID{explorer.DenseID}
		if id != explorer.DenseID {
			columns = append(columns, id)
		}
		return s.host.Do(explorer.Probe{Subnets: columns}, func(r explorer.Receipt) tea.Cmd {
			s.enter(r.Chat)
			s.focused = false
			return nil
		})
	})
}

func (s *Screen) pickChat() tea.Cmd {
	return widget.Pick(s.host, "chats", func() []widget.Choice {
		var out []widget.Choice
		for _, c := range s.snap().Chats {
			detail := fmt.Sprintf("%s, %s", format.Counted(len(c.Prompts), "prompt"), c.Created.Local().Format("2 Jan 15:04"))
			out = append(out, widget.Choice{Title: cmp.Or(text.Line(c.Name), "chat"), Detail: detail, Run: func() tea.Cmd {
				s.enter(c.ID)
				return nil
			}})
		}
		return out
	})
}

// columns are the subnets of a chat.
func columns(c explorer.Chat) []explorer.SubnetID {
	out := make([]explorer.SubnetID, len(c.Columns))
	for i, col := range c.Columns {
		out[i] = col.Subnet
	}
	return out
}

func (s *Screen) addColumn() tea.Cmd {
	c, _ := s.current(s.snap())
	have := columns(c)
	return subnets.PickBut(s.host, "add a column", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, have, func(id explorer.SubnetID) tea.Cmd {
		return s.host.Do(explorer.SetColumns{Chat: c.ID, Subnets: append(have, id)}, nil)
	})
}

func (s *Screen) removeColumn() tea.Cmd {
	c, _ := s.current(s.snap())
	i := c.Order(last(c))[layout.Clamp(s.column, 0, len(c.Columns)-1)]
	return s.host.Do(explorer.SetColumns{Chat: c.ID, Subnets: slices.Delete(columns(c), i, i+1)}, nil)
}

// vote counts a vote for a column, by its position on the screen.
func (s *Screen) vote(position int) tea.Cmd {
	c, _ := s.current(s.snap())
	name := columnName(c, position)
	return s.host.Do(explorer.Vote{Chat: c.ID, Column: c.Order(last(c))[position]}, func(_ explorer.Receipt) tea.Cmd {
		s.host.Note(explorer.Info, "the vote on this prompt is for "+name)
		return nil
	})
}

func (s *Screen) systemForm() tea.Cmd {
	c, _ := s.current(s.snap())
	e := widget.TextEntry("system", "system", c.System, "instructions before the first prompt; empty: none", nil)
	return s.host.Open(&widget.Form{Title: "system prompt", OK: "set", Entries: []*widget.Entry{e}, Submit: func(f *widget.Form) tea.Cmd {
		v := f.Get("system")
		return s.host.Do(explorer.ConfigureChat{Chat: c.ID, System: &v}, nil)
	}})
}

func (s *Screen) samplingForm() tea.Cmd {
	c, _ := s.current(s.snap())
	sa := c.Sampling
	num := func(v float64) string { return fmt.Sprintf("%g", v) }
	return s.host.Open(&widget.Form{Title: "sampling", OK: "set", Entries: []*widget.Entry{
		widget.TextEntry("temperature", "temperature", num(float64(sa.Temperature)), "0 always picks the most likely token", widget.NumberIn(0, 5)),
		widget.TextEntry("seed", "seed", fmt.Sprint(sa.Seed), "equal seeds give equal replies", widget.CountIn(0, 1<<31-1)),
		widget.TextEntry("max", "longest reply", fmt.Sprint(sa.MaxTokens), "tokens", widget.CountIn(1, 1<<20)),
		widget.TextEntry("topk", "top k", fmt.Sprint(sa.TopK), "only the k most likely tokens; 0 for all", widget.CountIn(0, 1<<20)),
		widget.TextEntry("topp", "top p", num(float64(sa.TopP)), "only the most likely tokens with total probability p", widget.NumberIn(0, 1)),
		widget.TextEntry("minp", "min p", num(float64(sa.MinP)), "only tokens at least this probable, relative to the best", widget.NumberIn(0, 1)),
		widget.TextEntry("repeat", "repeat penalty", num(float64(sa.RepeatPenalty)), "1 for none", widget.NumberIn(0, 5)),
		widget.TextEntry("gpu", "gpu layers", cmp.Or(c.GPU, s.snap().Model.GPU, infer.GPUAuto), "off, auto for as many as fit, or a number", subnets.CheckGPU),
	}, Submit: func(f *widget.Form) tea.Cmd {
		set(&sa.Temperature, f.Number("temperature"))
		set(&sa.Seed, f.Number("seed"))
		set(&sa.MaxTokens, f.Number("max"))
		set(&sa.TopK, f.Number("topk"))
		set(&sa.TopP, f.Number("topp"))
		set(&sa.MinP, f.Number("minp"))
		set(&sa.RepeatPenalty, f.Number("repeat"))
		change := explorer.ConfigureChat{Chat: c.ID, Sampling: &sa}
		if gpu := strings.TrimSpace(f.Get("gpu")); gpu != cmp.Or(c.GPU, s.snap().Model.GPU, infer.GPUAuto) {
			change.GPU = &gpu
		}
		return s.host.Do(change, nil)
	}})
}

// stopReply stops a reply. A reply that has ended meanwhile is not an error.
func (s *Screen) stopReply(id explorer.ChatID) tea.Cmd {
	return s.host.Try(explorer.StopReply{Chat: id}, nil, func(err error) bool { return errors.Is(err, explorer.ErrNotFound) })
}

// set converts a number of a form to the type of a setting.
func set[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~float32 | ~float64](dst *T, v float64) {
	*dst = T(v)
}

// export offers to copy the chat or to write it to a file.
func (s *Screen) export() tea.Cmd {
	c, _ := s.current(s.snap())
	return subnets.ExportText(s.host, "chat", cmp.Or(text.Line(c.Name), "chat")+".md", string(report.ChatMarkdown(c)))
}
