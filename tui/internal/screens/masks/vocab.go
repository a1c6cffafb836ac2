package masks

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// vocab returns what is known about smaller vocabularies of the model, of the newest subnet that has one; nil before.
func (s *Screen) vocab() *explorer.Vocab {
	for _, n := range s.snap().Subnets {
		if v := n.Method.Vocab; v != nil && len(v.Curve) > 0 {
			return v
		}
	}
	return nil
}

// vocabForm asks how many tokens of the vocabulary to keep.
func (s *Screen) vocabForm() tea.Cmd {
	all := s.snap().Model.Vocab
	note := fmt.Sprintf("Drops tokens that the text uses least; %d of %d now.", s.masks().VocabLen(), all)
	if v := s.vocab(); v != nil {
		note += " " + curveWords(v)
	}
	return s.host.Open(&widget.Form{
		Title: "trim the vocabulary", OK: "start", Stays: true, Note: note,
		Entries: []*widget.Entry{
			widget.TextEntry("size", fmt.Sprintf("of %d", all), "0.999", "how many tokens to keep, such as 24000, or which share of the text's tokens, such as 0.999", func(text string) error {
				v, err := explorer.ParseVocabSize(text)
				if err == nil && v.Keep > all {
					err = fmt.Errorf("the vocabulary has %d tokens", all)
				}
				return err
			}),
			subnets.TextEntry(explorer.Calibration{}),
			widget.TextEntry("name", "name", "", "of the result in the library; empty: by how it is made", nil),
		},
		Submit: func(f *widget.Form) tea.Cmd {
			size, _ := explorer.ParseVocabSize(f.Get("size")) // checked by the entries
			texts, _ := explorer.ParseTexts(f.Get("text"))
			version := s.snap().Draft.Version
			return f.Send(s.host, explorer.TrimVocab{Subnet: explorer.DraftID, Vocab: size, Calibration: texts, Name: f.Get("name")}, func(r explorer.Receipt) tea.Cmd {
				return s.host.AfterJob(r.Job, func(j explorer.Job) tea.Cmd {
					if s.snap().Draft.Version != version {
						return nil // it was edited meanwhile
					}
					return s.host.EditDraft(explorer.Checkout{Subnet: j.Result, Keep: true})
				})
			})
		}})
}

// curveWords lists two sizes of a curve.
func curveWords(v *explorer.Vocab) string {
	var parts []string
	for _, at := range []int{1, 2} {
		p := v.Curve[at*(len(v.Curve)-1)/3]
		parts = append(parts, fmt.Sprintf("%d: %s, %+.1f %% tokens", p.Kept, format.Bytes(p.Bytes), 100*(p.Longer-1)))
	}
	return strings.Join(parts, "; ") + "."
}

// drawVocab draws the row of a vocabulary that is not kept in full: its size, and where it is on the curve of bytes against tokens per word.
func (s *Screen) drawVocab(t *theme.Theme, masks subnet.Masks, w int) []string {
	if !masks.TrimsVocab() {
		return nil
	}
	kept, all := masks.VocabLen(), masks.Geometry().Vocab
	r := paint.NewRow(w, theme.Style{}).Put(t.Kept, "vocabulary ").Put(t.Text, fmt.Sprintf("%d of %d", kept, all))
	v := s.vocab()
	if v == nil {
		return []string{r.String()}
	}
	at, values := 0, make([]float64, len(v.Curve))
	most := v.Curve[len(v.Curve)-1].Longer - 1
	for i, p := range v.Curve {
		if p.Kept >= kept {
			at = i
		}
		if most > 0 {
			values[i] = (p.Longer - 1) / most
		}
	}
	p := v.Curve[at]
	r.Put(t.Dim, fmt.Sprintf(" · %s · %+.1f %% tokens ", format.Bytes(p.Bytes), 100*(p.Longer-1)))
	width := min(len(values), r.Room())
	if width < 4 {
		return []string{r.String()}
	}
	mark := at * (width - 1) / max(1, len(values)-1)
	for i, value := range chart.Resample(values, width) {
		style := t.Dropped
		if i == mark {
			style = t.Accent
		}
		r.Put(style, t.Glyph.Bar(value))
	}
	return []string{r.String()}
}
