package tui

import (
	"errors"
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

func chatActions() []*action {
	none := func(m *Model) string {
		if _, ok := m.chat().current(m.snap); !ok {
			return "there is no chat yet"
		}
		return ""
	}
	idle := func(m *Model) string {
		c, ok := m.chat().current(m.snap)
		switch {
		case !ok:
			return "there is no chat yet"
		case c.Busy:
			return "still answering"
		}
		return ""
	}
	said := func(m *Model) string {
		if why := idle(m); why != "" {
			return why
		}
		if c, _ := m.chat().current(m.snap); len(c.Prompts) == 0 {
			return "nothing was said yet"
		}
		return ""
	}
	two := func(m *Model) string {
		if c, _ := m.chat().current(m.snap); len(c.Columns) < 2 {
			return "there is only one column"
		}
		return ""
	}
	votable := func(m *Model) string {
		if why := said(m); why != "" {
			return why
		}
		return two(m)
	}
	run := func(f func(s *chatScreen, m *Model) tea.Cmd) func(*Model) tea.Cmd {
		return func(m *Model) tea.Cmd { return f(m.chat(), m) }
	}
	return []*action{
		{id: "chat.write", scope: onChat, keys: []string{"enter", "i"}, title: "Write a prompt", short: "write", changes: true, engine: true, help: "esc gives the keys back to the actions.",
			run: run(func(s *chatScreen, _ *Model) tea.Cmd { s.focused = true; return nil })},
		{id: "chat.stop", scope: onChat, keys: []string{"x"}, title: "Stop the reply", short: "stop", changes: true, help: "esc does the same while a reply comes in.",
			when: func(m *Model) string {
				if c, ok := m.chat().current(m.snap); !ok || !c.Busy {
					return "nobody is answering"
				}
				return ""
			},
			run: run(func(s *chatScreen, m *Model) tea.Cmd {
				c, _ := s.current(m.snap)
				return m.stopReply(c.ID)
			})},
		{id: "chat.again", scope: onChat, keys: []string{"r", "ctrl+r"}, title: "Ask for the last reply again, with the next seed", short: "again", changes: true, engine: true, when: said,
			run: run(func(s *chatScreen, m *Model) tea.Cmd {
				c, _ := s.current(m.snap)
				return m.do(explorer.Regenerate{Chat: c.ID}, nil)
			})},
		{id: "chat.edit", scope: onChat, keys: []string{"e"}, title: "Edit the last prompt and ask again", short: "edit last", changes: true, engine: true, when: said, run: run((*chatScreen).editLast)},
		{id: "chat.new", scope: onChat, keys: []string{"n"}, title: "New chat: the dense model beside a subnet", short: "new", changes: true, engine: true, run: run((*chatScreen).newChat)},
		{id: "chat.list", scope: onChat, keys: []string{"l"}, title: "Go to another chat", short: "chats", when: none, run: run((*chatScreen).pickChat)},
		{id: "chat.columns", scope: onChat, keys: []string{"v"}, title: "Put another subnet beside the dense model", short: "subnet", changes: true, when: idle, run: run(func(s *chatScreen, m *Model) tea.Cmd {
			c, _ := s.current(m.snap)
			return m.pickSubnet("beside the dense model", []explorer.SubnetID{explorer.DraftID}, func(m *Model, id explorer.SubnetID) tea.Cmd {
				return m.do(explorer.SetColumns{Chat: c.ID, Subnets: []explorer.SubnetID{explorer.DenseID, id}}, nil)
			})
		})},
		{id: "chat.add", scope: onChat, keys: []string{"+"}, title: "Add a column", changes: true, when: idle, run: run((*chatScreen).addColumn)},
		{id: "chat.remove", scope: onChat, keys: []string{"-"}, title: "Remove the column under the cursor", changes: true, when: func(m *Model) string {
			if why := idle(m); why != "" {
				return why
			}
			return two(m)
		}, run: run((*chatScreen).removeColumn)},
		{id: "chat.blind", scope: onChat, keys: []string{"b"}, title: "Hide or reveal which column is which", short: "blind", changes: true, help: "A blind comparison: two unnamed columns and your votes.",
			label: func(m *Model) string {
				if c, _ := m.chat().current(m.snap); c.Blind {
					return "reveal"
				}
				return "blind"
			}, when: func(m *Model) string {
				if why := idle(m); why != "" {
					return why
				}
				return two(m)
			}, run: run(func(s *chatScreen, m *Model) tea.Cmd {
				c, _ := s.current(m.snap)
				blind := !c.Blind
				return m.do(explorer.ConfigureChat{Chat: c.ID, Blind: &blind}, nil)
			})},
		{id: "chat.voteleft", scope: onChat, keys: []string{"<"}, title: "Vote for the left column", changes: true, when: votable, run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.vote(m, 0) })},
		{id: "chat.voteright", scope: onChat, keys: []string{">"}, title: "Vote for the right column", changes: true, when: votable, run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.vote(m, 1) })},
		{id: "chat.system", scope: onChat, keys: []string{"s"}, title: "Change the system prompt", short: "system", changes: true, when: idle, run: run((*chatScreen).systemForm)},
		{id: "chat.sampling", scope: onChat, keys: []string{"t"}, title: "Change temperature, seed and other sampling settings", short: "sampling", changes: true, when: idle, run: run((*chatScreen).samplingForm)},
		{id: "chat.next", scope: onChat, keys: []string{"tab"}, title: "Next column", when: none, run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.turn(m, 1) })},
		{id: "chat.previous", scope: onChat, keys: []string{"shift+tab"}, title: "Previous column", when: none, run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.turn(m, -1) })},
		{id: "chat.alone", scope: onChat, keys: []string{"a"}, title: "Show one column alone, or all", when: two, run: run(func(s *chatScreen, _ *Model) tea.Cmd { s.alone = !s.alone; return nil })},
		{id: "chat.rename", scope: onChat, keys: []string{"R"}, title: "Rename the chat", changes: true, when: none, run: run(func(s *chatScreen, m *Model) tea.Cmd {
			c, _ := s.current(m.snap)
			return m.openForm(&form{title: "rename the chat", ok: "rename", entries: []*entry{textEntry("name", "name", c.Name, "", needText)}, submit: func(m *Model, f *form) tea.Cmd {
				name := f.get("name")
				return m.do(explorer.ConfigureChat{Chat: c.ID, Name: &name}, nil)
			}})
		})},
		{id: "chat.delete", scope: onChat, keys: []string{"D"}, title: "Delete the chat", changes: true, when: idle, run: run(func(s *chatScreen, m *Model) tea.Cmd {
			c, _ := s.current(m.snap)
			return m.ask("delete", "The chat "+text.Line(c.Name)+" is deleted for good.", "delete it", func(m *Model) tea.Cmd { return m.do(explorer.DeleteChat{Chat: c.ID}, nil) })
		})},
		{id: "chat.export", scope: onChat, keys: []string{"w"}, title: "Export the chat as markdown", when: none, run: run((*chatScreen).export)},
		{id: "chat.copy", scope: onChat, keys: []string{"y"}, title: "Copy the last reply of the column", when: said, run: run(func(s *chatScreen, m *Model) tea.Cmd {
			c, _ := s.current(m.snap)
			col := c.Columns[order(c)[clamp(s.column, 0, len(c.Columns)-1)]]
			if len(col.Replies) == 0 {
				return nil
			}
			return m.copy(text.Block(col.Replies[len(col.Replies)-1].Text), "the reply")
		})},
		{id: "chat.down", scope: onChat, keys: []string{"down", "j"}, title: "Scroll down", run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.scroll(m, 1) })},
		{id: "chat.up", scope: onChat, keys: []string{"up", "k"}, title: "Scroll up", run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.scroll(m, -1) })},
		{id: "chat.pagedown", scope: onChat, keys: []string{"pgdown"}, title: "Scroll a page down", run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.scroll(m, m.area().Body.H/2) })},
		{id: "chat.pageup", scope: onChat, keys: []string{"pgup"}, title: "Scroll a page up", run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.scroll(m, -m.area().Body.H/2) })},
		{id: "chat.first", scope: onChat, keys: []string{"home"}, title: "Scroll to the beginning", run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.scroll(m, -1<<20) })},
		{id: "chat.last", scope: onChat, keys: []string{"end"}, title: "Scroll to the end", run: run(func(s *chatScreen, m *Model) tea.Cmd { return s.scroll(m, 1<<20) })},
	}
}

func (s *chatScreen) turn(m *Model, by int) tea.Cmd {
	c, _ := s.current(m.snap)
	if n := len(c.Columns); n > 0 {
		s.column = ((s.column+by)%n + n) % n
	}
	return nil
}

func (s *chatScreen) editLast(m *Model) tea.Cmd {
	c, _ := s.current(m.snap)
	s.prompt.set(c.Prompts[len(c.Prompts)-1].Text)
	s.editing, s.focused = true, true
	return nil
}

func (s *chatScreen) newChat(m *Model) tea.Cmd {
	return m.pickSubnet("chat with", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, func(m *Model, id explorer.SubnetID) tea.Cmd {
		subnets := []explorer.SubnetID{explorer.DenseID}
		if id != explorer.DenseID {
			subnets = append(subnets, id)
		}
		return m.do(explorer.OpenChat{Subnets: subnets}, func(m *Model, r explorer.Receipt) tea.Cmd {
			s.enter(m, r.Chat)
			return nil
		})
	})
}

func (s *chatScreen) pickChat(m *Model) tea.Cmd {
	return m.pick("chats", func(m *Model) []choice {
		var out []choice
		for _, c := range m.snap.Chats {
			detail := fmt.Sprintf("%d %s, %s", len(c.Prompts), plural(len(c.Prompts), "prompt", "prompts"), c.Created.Local().Format("2 Jan 15:04"))
			out = append(out, choice{title: orElse(text.Line(c.Name), "chat"), detail: detail, run: func(m *Model) tea.Cmd {
				s.enter(m, c.ID)
				return nil
			}})
		}
		return out
	})
}

func (s *chatScreen) subnets(c explorer.Chat) []explorer.SubnetID {
	out := make([]explorer.SubnetID, len(c.Columns))
	for i, col := range c.Columns {
		out[i] = col.Subnet
	}
	return out
}

func (s *chatScreen) addColumn(m *Model) tea.Cmd {
	c, _ := s.current(m.snap)
	have := s.subnets(c)
	return m.pickSubnet("add a column", []explorer.SubnetID{explorer.DenseID, explorer.DraftID}, func(m *Model, id explorer.SubnetID) tea.Cmd {
		if slices.Contains(have, id) {
			m.say(levelInfo, subnetName(m.snap, id)+" is there already")
			return nil
		}
		return m.do(explorer.SetColumns{Chat: c.ID, Subnets: append(have, id)}, nil)
	})
}

func (s *chatScreen) removeColumn(m *Model) tea.Cmd {
	c, _ := s.current(m.snap)
	i := order(c)[clamp(s.column, 0, len(c.Columns)-1)]
	return m.do(explorer.SetColumns{Chat: c.ID, Subnets: slices.Delete(s.subnets(c), i, i+1)}, nil)
}

// vote counts a vote for a column, by its place on the screen.
func (s *chatScreen) vote(m *Model, place int) tea.Cmd {
	c, _ := s.current(m.snap)
	name := columnName(c, place)
	return m.do(explorer.Vote{Chat: c.ID, Column: order(c)[place]}, func(m *Model, _ explorer.Receipt) tea.Cmd {
		m.say(levelInfo, "a vote for "+name)
		return nil
	})
}

func (s *chatScreen) systemForm(m *Model) tea.Cmd {
	c, _ := s.current(m.snap)
	e := textEntry("system", "system", c.System, "what every reply is told beforehand; empty for none", nil)
	return m.openForm(&form{title: "system prompt", ok: "set", entries: []*entry{e}, submit: func(m *Model, f *form) tea.Cmd {
		v := f.get("system")
		return m.do(explorer.ConfigureChat{Chat: c.ID, System: &v}, nil)
	}})
}

func (s *chatScreen) samplingForm(m *Model) tea.Cmd {
	c, _ := s.current(m.snap)
	sa := c.Sampling
	num := func(v float64) string { return fmt.Sprintf("%g", v) }
	return m.openForm(&form{title: "sampling", ok: "set", entries: []*entry{
		textEntry("temperature", "temperature", num(float64(sa.Temperature)), "0 always takes the most likely token", numberIn(0, 5)),
		textEntry("seed", "seed", fmt.Sprint(sa.Seed), "equal seeds give equal replies", countIn(0, 1<<31-1)),
		textEntry("max", "longest reply", fmt.Sprint(sa.MaxTokens), "tokens", countIn(1, 1<<20)),
		textEntry("topk", "top k", fmt.Sprint(sa.TopK), "only the k most likely tokens; 0 for all", countIn(0, 1<<20)),
		textEntry("topp", "top p", num(float64(sa.TopP)), "only the most likely tokens that add up to p", numberIn(0, 1)),
		textEntry("minp", "min p", num(float64(sa.MinP)), "only tokens at least this likely, relative to the best", numberIn(0, 1)),
		textEntry("repeat", "repeat penalty", num(float64(sa.RepeatPenalty)), "1 for none", numberIn(0, 5)),
	}, submit: func(m *Model, f *form) tea.Cmd {
		set(&sa.Temperature, f.number("temperature"))
		set(&sa.Seed, f.number("seed"))
		set(&sa.MaxTokens, f.number("max"))
		set(&sa.TopK, f.number("topk"))
		set(&sa.TopP, f.number("topp"))
		set(&sa.MinP, f.number("minp"))
		set(&sa.RepeatPenalty, f.number("repeat"))
		return m.do(explorer.ConfigureChat{Chat: c.ID, Sampling: &sa}, nil)
	}})
}

// stopReply stops a reply. That it ended by itself meanwhile is no failure.
func (m *Model) stopReply(id explorer.ChatID) tea.Cmd {
	stop := m.do(explorer.StopReply{Chat: id}, nil)
	return func() tea.Msg {
		done := stop().(doneMsg)
		if errors.Is(done.err, explorer.ErrNotFound) {
			done.err = nil
		}
		return done
	}
}

// set converts a number of a form to the type of a setting.
func set[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~float32 | ~float64](dst *T, v float64) {
	*dst = T(v)
}

// export offers to copy the chat or to write it to a file.
func (s *chatScreen) export(m *Model) tea.Cmd {
	c, _ := s.current(m.snap)
	return m.exportText("chat", orElse(text.Line(c.Name), "chat")+".md", string(explorer.ChatMarkdown(c)))
}
