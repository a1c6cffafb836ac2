// Package subnets contains the code about subnets that screens share: names, masks, costs, strips of layers, and forms to
// choose, export and measure them.
package subnets

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Name returns what a subnet is called on the screen.
func Name(s *explorer.Snapshot, id explorer.SubnetID) string {
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

// StatisticsState is what keeps statistics from being there, or the key that gathers them: a clause, such as "S on Search gathers statistics".
func StatisticsState(host screen.Host) string {
	s := host.Snapshot()
	i := slices.IndexFunc(s.Jobs, func(j explorer.Job) bool { return j.Kind == explorer.JobStatistics && !j.State.Ended() })
	if i < 0 {
		return host.Key("search.gather") + " on Search gathers statistics"
	}
	switch what := s.Awaits(s.Jobs[i]); {
	case what != "":
		return "statistics wait for " + text.Line(what)
	case s.Jobs[i].State == explorer.Paused:
		return "statistics are paused, " + host.Key("jobs") + " resumes them"
	}
	return "statistics are being gathered"
}

// Masks returns the masks of a subnet; ok is false when it is gone.
func Masks(s *explorer.Snapshot, id explorer.SubnetID) (m subnet.Masks, ok bool) {
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

// Pick asks for a subnet of the library; extra IDs come first.
func Pick(host screen.Host, title string, extra []explorer.SubnetID, run func(id explorer.SubnetID) tea.Cmd) tea.Cmd {
	return PickBut(host, title, extra, nil, run)
}

// PickBut is Pick without some subnets.
func PickBut(host screen.Host, title string, extra, without []explorer.SubnetID, run func(id explorer.SubnetID) tea.Cmd) tea.Cmd {
	return host.Open(&widget.Picker{Title: title, Choices: func() []widget.Choice {
		snap := host.Snapshot()
		var out []widget.Choice
		for _, id := range extra {
			if slices.Contains(without, id) {
				continue
			}
			detail := "the model as loaded"
			if id == explorer.DraftID {
				detail = fmt.Sprintf("the masks being edited, ratio %.3f", snap.Draft.Size.Ratio)
			}
			out = append(out, widget.Choice{Title: Name(snap, id), Detail: detail, Run: func() tea.Cmd { return run(id) }})
		}
		for _, n := range snap.Subnets {
			if slices.Contains(without, n.ID) {
				continue
			}
			detail := fmt.Sprintf("%s  ratio %.3f", n.Origin, n.Size.Ratio)
			if f := n.Figure(); f.Relative > 0 {
				detail += "  " + text.Relative(f.Relative) + " × dense"
			}
			if n.Refit == "" {
				detail += "  not re-fitted"
			}
			out = append(out, widget.Choice{Title: text.Line(n.Name), Detail: detail, Run: func() tea.Cmd { return run(n.ID) }})
		}
		return out
	}})
}

// Measure measures the perplexity of a subnet in the background.
func Measure(host screen.Host, id explorer.SubnetID) tea.Cmd {
	return host.Do(explorer.Measure{Subnet: id}, func(r explorer.Receipt) tea.Cmd {
		snap := host.Snapshot()
		if j, _ := snap.Job(r.Job); !j.State.Ended() {
			host.Note(explorer.Info, "measuring the perplexity of "+Name(snap, id)+" in the background")
		}
		return nil
	})
}

// readableMasks is how long the text of masks may be before its sets are written as bits: terminals accept little.
const readableMasks = 16 << 10

// CopyMasks copies masks as text; what names them.
func CopyMasks(host screen.Host, masks subnet.Masks, what string) tea.Cmd {
	b, err := masks.MarshalText()
	if err == nil && len(b) > readableMasks {
		b, err = masks.CompactText()
	}
	if err != nil {
		host.Fail(err)
		return nil
	}
	return host.Copy(string(b), what)
}

// Searching returns the search that has not ended.
func Searching(snap *explorer.Snapshot) (explorer.Job, bool) {
	if j, ok := snap.Job(snap.Search.Job); ok && !j.State.Ended() {
		return j, true
	}
	i := slices.IndexFunc(snap.Jobs, func(j explorer.Job) bool { return j.Kind == explorer.JobSearch && !j.State.Ended() })
	if i < 0 {
		return explorer.Job{}, false
	}
	return snap.Jobs[i], true
}

// CalibrationEntries are the entries of forms about calibration text, which [CalibrationOf] reads. windows is how many windows an
// empty entry means, in words, and seq how many tokens each has then.
func CalibrationEntries(windows, seq string) []*widget.Entry {
	return append([]*widget.Entry{
		TextEntry(explorer.Calibration{}),
		widget.TextEntry("windows", "windows", "", "windows of calibration text; more lose less and take longer; empty: "+windows, widget.CountIn(1, int(explorer.WindowsRange().Hi))),
		widget.TextEntry("seq", "window tokens", "", "tokens per window; empty: "+seq, widget.CountIn(int(explorer.SeqRange().Lo), int(explorer.SeqRange().Hi))),
	}, ComputeEntries(explorer.Calibration{})...)
}

// FitEntries are [CalibrationEntries] of cuts and re-fits.
func FitEntries() []*widget.Entry {
	return CalibrationEntries(strconv.Itoa(explorer.FitWindows), "2048")
}

// asStarted is the choice that leaves how a job computes to the flags that the program was started with.
const asStarted = "as started"

// ComputeEntries are the entries of forms about how a job computes, which [CalibrationOf] reads.
func ComputeEntries(was explorer.Calibration) []*widget.Entry {
	atOnce := ""
	if was.AtOnce > 0 {
		atOnce = strconv.Itoa(was.AtOnce)
	}
	r := explorer.AtOnceRange()
	return []*widget.Entry{
		widget.ChoiceEntry("compute-type", "weights as", cmp.Or(was.ComputeType, asStarted), "bf16: the job computes with rounded weights, in half of the memory; the result has unrounded ones", append([]string{asStarted}, explorer.ComputeTypes()...)...),
		widget.TextEntry("at-once", "windows at once", atOnce, "windows that are computed at once; empty: one on the processor, on a GPU as many as its free memory permits", widget.CountIn(int(r.Lo), int(r.Hi))),
	}
}

// TextEntry is the entry of the calibration text in forms that [CalibrationOf] reads.
func TextEntry(c explorer.Calibration) *widget.Entry {
	help := "a file, a folder or hub:OWNER/NAME; a mix: notes=PATH:0.5, wiki:0.3, chat:0.2; empty: " + explorer.Calibration{Mix: explorer.DefaultMix()}.Texts()
	return widget.TextEntry("text", "text", c.Texts(), help, func(text string) error {
		_, err := explorer.ParseTexts(text)
		return err
	})
}

// CalibrationOf returns the calibration text chosen in a form with [CalibrationEntries].
func CalibrationOf(f *widget.Form) explorer.Calibration {
	c, _ := explorer.ParseTexts(f.Get("text")) // the form has checked it
	c.Windows, c.Seq, c.AtOnce = f.Count("windows"), f.Count("seq"), f.Count("at-once")
	if typ := f.Get("compute-type"); typ != asStarted {
		c.ComputeType = typ
	}
	return c
}

// Making describes how a subnet was made, by hand too.
func Making(n explorer.Subnet) string {
	method := MethodName(n.Method)
	if n.Origin != explorer.Edited {
		return method
	}
	if method == "" {
		return "edited by hand"
	}
	return "edited by hand, after " + method
}

// MethodName describes the method by which a subnet was made.
func MethodName(me explorer.Method) string {
	s := me.Reform
	switch {
	case me.Preset != "" && s != "":
		s = me.Preset + ", " + s
	case me.Preset != "":
		s = me.Preset
	}
	if me.Steps > 0 {
		s += fmt.Sprintf(", rho %.3g, %s", me.Rho, format.Counted(me.Steps, "step"))
	}
	if me.Lambda != nil {
		s += fmt.Sprintf(", lambda %.3g", *me.Lambda)
	}
	if me.Pull {
		s += ", pulled to the original weights"
	}
	if v := me.Vocab; v != nil {
		s = strings.TrimPrefix(fmt.Sprintf("%s, vocabulary %d of %d", s, v.Kept, v.Of), ", ")
	}
	return s
}

// ModelName returns what the model is called on the screen: the name of its file without type and ending. The name inside
// the file is often that of a training run.
func ModelName(mi explorer.ModelInfo) string {
	stem := strings.TrimSuffix(filepath.Base(mi.Path), filepath.Ext(mi.Path))
	if mi.Name != "" && strings.HasPrefix(stem, mi.Name) || stem == "" || stem == "." {
		return text.Line(mi.Name)
	}
	if n := len(stem) - len(mi.Type()); n > 1 && mi.Type() != "" && strings.EqualFold(stem[n:], mi.Type()) {
		stem = strings.TrimRight(stem[:n], ".-_")
	}
	return text.Line(stem)
}

// CheckGPU lets pass what [GPULayers] reads.
func CheckGPU(text string) error {
	if _, err := infer.ParseGPU(strings.TrimSpace(text)); err != nil {
		return errors.New("must be off, auto or a number of layers")
	}
	return nil
}

// GPULayers is the number of layers that a form's text means, infer.AllLayers for as many as fit.
func GPULayers(text string) int {
	n, err := infer.ParseGPU(strings.TrimSpace(text))
	if err != nil { // a form is not submitted with it
		return 0
	}
	return n
}
