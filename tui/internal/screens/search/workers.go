package search

import (
	"fmt"
	"strconv"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// machinesEntries are the entries of a form for where the work of a search is done.
func machinesEntries(m explorer.Machines) []*widget.Entry {
	entries := append(piecesEntries(m, "make levels and score candidates"),
		widget.ToggleEntry("async", "asynchronous", m.Async, "do not wait for candidates that take much longer than others; the seed then does not determine the result"))
	entries[len(entries)-1].Hidden = entries[1].Hidden
	return entries
}

// piecesEntries are those for other work, what being a verb with its object.
func piecesEntries(m explorer.Machines, what string) []*widget.Entry {
	count := ""
	if m.Workers > 0 {
		count = strconv.Itoa(m.Workers)
	}
	hidden := func(f *widget.Form) bool { return !f.Yes("elsewhere") }
	elsewhere := func(f *widget.Form) bool { return hidden(f) || f.Get("nats") == "" }
	entries := []*widget.Entry{
		widget.ToggleEntry("elsewhere", "workers", m.On(), "other processes or machines "+what+"; no: this process does"),
		widget.TextEntry("workers", "on this machine", count, "how many workers to start here, each on a GPU of its own if there are GPUs; empty: none", widget.CountIn(1, explorer.MaxWorkers)),
		widget.TextEntry("nats", "NATS server", m.NATS, "of workers on other machines (`lathe worker`): nats://HOST:PORT or tls://HOST:PORT; empty: none", nil),
		widget.TextEntry("creds", "credentials", m.Creds, "credentials file for the NATS server; empty: none", nil),
		widget.TextEntry("shared", "shared folder", m.Shared, "that workers can access too; empty: files go through the server", nil),
	}
	for _, e := range entries[1:] {
		e.Hidden = hidden
	}
	entries[3].Hidden, entries[4].Hidden = elsewhere, elsewhere
	return entries
}

// machinesOf returns what was entered for a search.
func machinesOf(f *widget.Form) explorer.Machines {
	m := piecesOf(f)
	m.Async = m.On() && f.Yes("async")
	return m
}

// piecesOf returns what was entered for other work.
func piecesOf(f *widget.Form) explorer.Machines {
	if !f.Yes("elsewhere") {
		return explorer.Machines{}
	}
	m := explorer.Machines{Workers: f.Count("workers"), NATS: f.Get("nats")}
	if m.NATS != "" {
		m.Creds, m.Shared = f.Get("creds"), f.Get("shared")
	}
	return m
}

// noWorkers is why there is nothing to show or to drain.
func (s *Screen) noWorkers() string {
	if len(s.snap().Search.Workers) == 0 {
		return "no search or other job has workers now"
	}
	return ""
}

// showWorkers lists the workers.
func (s *Screen) showWorkers() tea.Cmd {
	s.host.Open(&widget.Pager{Title: "workers", Width: 110, Lines: func(w int) []string {
		t, sr := s.host.Theme(), s.snap().Search
		rows := []string{widget.Line(w).Put(t.Text, workersFact(sr)).String()}
		if sr.Async {
			rows = append(rows, widget.Paragraph(w, t.Dim, "The search does not wait for stragglers: the same seed may end with another subnet.")...)
		}
		rows = append(rows, paint.Blank(w))
		for _, k := range sr.Workers {
			rows = append(rows, workerRow(t, k, w))
			if k.Error != "" {
				rows = append(rows, widget.Paragraph(w, t.Warn, "  "+text.Line(k.Error))...)
			}
		}
		for _, g := range sr.GivenUp {
			rows = append(rows, widget.Paragraph(w, t.Dim, "Done by the search itself: "+text.Line(g))...)
		}
		return rows
	}, More: []widget.PagerAction{{Key: "d", Label: "drain", Run: func() tea.Cmd { return s.host.Perform("search.drain") }}}})
	return nil
}

// workersFact counts workers and what they have to do.
func workersFact(sr explorer.Search) string {
	works := 0
	for _, k := range sr.Workers {
		if k.Works() {
			works++
		}
	}
	what := "candidates"
	for _, k := range sr.Workers {
		if k.Doing != "" && k.Doing != what {
			what = "pieces of work"
		}
	}
	return fmt.Sprintf("%d of %s, %d %s with them", works, format.Counted(len(sr.Workers), "worker"), sr.Queued, what)
}

func workerRow(t *theme.Theme, k explorer.Worker, w int) string {
	style := t.Dim
	if k.Works() {
		style = t.Text
	}
	speed := text.None
	if k.PerMinute > 0 {
		speed = fmt.Sprintf("%.1f", k.PerMinute)
	}
	r := widget.Line(w).Put(style, fmt.Sprintf("%-16.16s ", text.Line(k.ID))).Put(style, fmt.Sprintf("%-10s ", k.State))
	r.Num(t.Text, strconv.Itoa(k.Scored), 6).Put(t.Dim, " done  ").Num(t.Text, speed, 6).Put(t.Dim, " per minute")
	if k.Failed > 0 {
		r.Put(t.Warn, fmt.Sprintf("  %d failed", k.Failed))
	}
	if k.Doing != "" && k.Doing != "candidates" {
		r.Put(t.Dim, "  "+text.Line(k.Doing))
	}
	return r.Put(t.Dim, "  "+text.Line(k.Host)+"  "+text.Line(k.Device)).String()
}

// drain asks which worker is to leave.
func (s *Screen) drain() tea.Cmd {
	var ids []string
	for _, k := range s.snap().Search.Workers {
		if k.Works() {
			ids = append(ids, k.ID)
		}
	}
	if len(ids) == 0 {
		s.host.Note(explorer.Info, "no worker takes work now")
		return nil
	}
	return s.host.Open(&widget.Form{
		Title: "drain", OK: "drain", Note: "The worker finishes what it has and leaves. The rest goes to the others.",
		Entries: []*widget.Entry{widget.ChoiceEntry("worker", "worker", ids[0], "which worker leaves", ids...)},
		Submit: func(f *widget.Form) tea.Cmd {
			return s.host.Do(explorer.DrainWorker{Worker: f.Get("worker")}, func(explorer.Receipt) tea.Cmd {
				s.host.Note(explorer.Info, "worker "+f.Get("worker")+" leaves when its task is done")
				return nil
			})
		},
	})
}
