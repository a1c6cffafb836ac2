package reform

import (
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// tuneForm asks how to tune a subnet: the chosen one, else the last result.
func (s *Screen) tuneForm() tea.Cmd {
	id := s.target()
	if n, ok := s.snap().Subnet(s.snap().Reform.Result); ok && s.subnet == "" && n.Deleted.IsZero() {
		id = n.ID
	}
	entries := append([]*widget.Entry{
		widget.TextEntry("time", "time", "10m", "how long to compute; more text is seen in more time", duration),
		widget.TextEntry("rate", "rate", "", "step of Adam at first, a share of the size of the numbers; empty: 0.003", widget.NumberIn(0, 1)),
		rankEntry("rank", "rank"),
		widget.TextEntry("name", "name", "", "of the result in the library; empty: by how it is made", nil),
	}, subnets.CalibrationEntries("all of the text, up to 1024", "512")...)
	return s.host.Open(&widget.Form{
		Title: "tune " + subnets.Name(s.snap(), id), OK: "start", Stays: true, Entries: entries,
		Note: "Trains norms, channel scales and output biases end to end on the divergence from the dense model. The matrices stay as they are where the rank is 0.",
		Submit: func(f *widget.Form) tea.Cmd {
			d, _ := time.ParseDuration(f.Get("time")) // checked by the entry
			c := explorer.Tune{Subnet: id, Name: f.Get("name"), Calibration: subnets.CalibrationOf(f), Tuning: explorer.Tuning{Seconds: d.Seconds(), Rate: f.Number("rate"), Rank: f.Count("rank"), Seed: 1}}
			return f.Send(s.host, c, func(_ explorer.Receipt) tea.Cmd { return s.host.Show(s.Name()) })
		}})
}

// rankEntry is an entry for the rank of what tuning adds to matrices.
func rankEntry(id, name string) *widget.Entry {
	r := explorer.RankRange()
	return widget.TextEntry(id, name, "0", "a matrix of this rank is added to each matrix and trained with the rest (LoRA); 0 leaves the matrices as they are", widget.CountIn(int(r.Lo), int(r.Hi)))
}

// Values of the entry for tuning besides limits.
const (
	tuneDefault = "default"
	tuneOff     = "off"
)

// tuning checks an entry for a limit of tuning.
func tuning(text string) error {
	if text == "" || text == tuneDefault || text == tuneOff {
		return nil
	}
	_, err := explorer.ParseTuning(text)
	return err
}

// tuningOf returns the tuning that a form asks for of a cut.
func tuningOf(f *widget.Form, c explorer.Cut) explorer.Tuning {
	text := f.Get("tune")
	if text == tuneDefault {
		t := explorer.DefaultTuning(c)
		t.Rank = f.Count("tune-rank")
		return t
	}
	t, err := explorer.ParseTuning(text)
	if err != nil { // empty or off; the entry has checked it
		return explorer.Tuning{}
	}
	t.Seed, t.Rank = 1, f.Count("tune-rank")
	return t
}

// duration checks an entry for a positive duration.
func duration(text string) error {
	if d, err := time.ParseDuration(text); err != nil || d <= 0 {
		return fmt.Errorf("not a duration such as 10m")
	}
	return nil
}
