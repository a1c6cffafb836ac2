package tui

import (
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

// subnetName is what a subnet is called on the screen.
func subnetName(s *explorer.Snapshot, id explorer.SubnetID) string {
	switch id {
	case explorer.DenseID:
		return "dense"
	case explorer.DraftID:
		return "draft"
	}
	if n, ok := s.Subnet(id); ok {
		return text.Line(n.Name)
	}
	return string(id)
}

// masksOf are the masks of a subnet; ok is false when it is gone.
func masksOf(s *explorer.Snapshot, id explorer.SubnetID) (m subnet.Masks, ok bool) {
	switch id {
	case explorer.DenseID:
		if s.Model.Geometry == nil {
			return m, false
		}
		return subnet.Dense(s.Model.Geometry), true
	case explorer.DraftID:
		return s.Draft.Masks, s.Draft.Masks.Layers() > 0
	}
	n, ok := s.Subnet(id)
	return n.Masks, ok && n.Masks.Layers() > 0
}

// newest is the newest measurement of a subnet, or nil.
func newest(n explorer.Subnet) *explorer.Measurement {
	if len(n.Measurements) == 0 {
		return nil
	}
	return &n.Measurements[0]
}

// pickSubnet asks for a subnet of the library; extra ids come first.
func (m *Model) pickSubnet(title string, extra []explorer.SubnetID, run func(m *Model, id explorer.SubnetID) tea.Cmd) tea.Cmd {
	return m.pick(title, func(m *Model) []choice {
		var out []choice
		for _, id := range extra {
			detail := "the model as loaded"
			if id == explorer.DraftID {
				detail = fmt.Sprintf("the masks in work, share %.3f", m.snap.Draft.Size.Ratio)
			}
			out = append(out, choice{title: subnetName(m.snap, id), detail: detail, run: func(m *Model) tea.Cmd { return run(m, id) }})
		}
		for _, n := range m.snap.Subnets {
			detail := fmt.Sprintf("%s  share %.3f", n.Origin, n.Size.Ratio)
			if k := newest(n); k != nil {
				detail += "  ppl " + text.Perplexity(k.Perplexity)
			}
			out = append(out, choice{title: text.Line(n.Name), detail: detail, run: func(m *Model) tea.Cmd { return run(m, n.ID) }})
		}
		return out
	})
}

// chatWith goes to a chat of the dense model beside a subnet: the newest one there is, or a new one.
func (m *Model) chatWith(id explorer.SubnetID) tea.Cmd {
	want := []explorer.SubnetID{explorer.DenseID, id}
	if id == explorer.DenseID {
		want = want[:1]
	}
	for _, c := range m.snap.Chats {
		have := make([]explorer.SubnetID, len(c.Columns))
		for i, col := range c.Columns {
			have[i] = col.Subnet
		}
		if slices.Equal(have, want) && !c.Blind {
			m.chat().enter(m, c.ID)
			return m.show(chatID)
		}
	}
	if why := m.blocked(m.action("chat.new")); why != "" {
		m.say(levelInfo, "chat: "+why)
		return nil
	}
	return m.do(explorer.OpenChat{Subnets: want}, func(m *Model, r explorer.Receipt) tea.Cmd {
		m.chat().enter(m, r.Chat)
		return m.show(chatID)
	})
}

// editMasks takes a subnet's masks into the editor, as one step that can be undone.
func (m *Model) editMasks(id explorer.SubnetID) tea.Cmd {
	cmd := m.show(masksID)
	if id == explorer.DraftID || id == m.snap.Draft.Base && !m.snap.Draft.Dirty() {
		return cmd
	}
	return tea.Batch(cmd, m.masks().queue(m, explorer.Checkout{Subnet: id, Keep: m.snap.Draft.Dirty()}))
}

// measure takes a subnet's perplexity in the background.
func (m *Model) measure(id explorer.SubnetID) tea.Cmd {
	return m.do(explorer.Measure{Subnet: id}, func(m *Model, r explorer.Receipt) tea.Cmd {
		if j, _ := m.snap.Job(r.Job); !j.State.Ended() {
			m.say(levelInfo, "measuring the perplexity of "+subnetName(m.snap, id)+" in the background")
		}
		return nil
	})
}
