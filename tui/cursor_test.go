package tui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// errRecorded is what a recorder answers.
var errRecorded = errors.New("recorded")

// A recorder carries no command out, so that every key is tried on the same state.
type recorder struct {
	*explorer.Exploration
	mu   sync.Mutex
	last explorer.Command
	// unsorted shows the population as it is while a generation is scored: the best one is not the first.
	unsorted bool
}

func (r *recorder) Snapshot() *explorer.Snapshot {
	s := r.Exploration.Snapshot()
	if all := s.Search.Population; r.unsorted && len(all) > 3 {
		turned := *s
		turned.Search.Population = slices.Concat(all[2:], all[:2])
		return &turned
	}
	return s
}

func (r *recorder) Do(ctx context.Context, a explorer.Actor, c explorer.Command) (explorer.Receipt, error) {
	switch c.(type) {
	case explorer.Attach, explorer.Detach:
		return r.Exploration.Do(ctx, a, c)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = c
	return explorer.Receipt{}, errRecorded
}

func (r *recorder) take() explorer.Command {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.last
	r.last = nil
	return c
}

// given reports whether there was a command.
func (r *recorder) given() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil
}

// onRows are the actions that act on the row under the cursor, with the end of a key sequence that submits the forms they open.
// Every action of a screen with a list is here or in elsewhere.
func onRows() map[string]int { // number of forms to submit
	return map[string]int{
		"search.chat": 0, "search.edit": 0, "search.adopt": 0, "search.reform": 1, "search.bench": 1,
		"library.chat": 0, "library.edit": 0, "library.export": 1, "library.bench": 1, "library.reform": 1, "library.measure": 0, "library.measureon": 1,
		"library.quantize": 1, "library.rename": 1, "library.note": 1, "library.duplicate": 1, "library.delete": 0, "library.inject": 0,
		"masks.shrink": 0, "masks.grow": 0, "masks.top": 1, "masks.drop": 0, "masks.droplayer": 0, "masks.restore": 0, "masks.invert": 0,
		"bench.chat": 0,
	}
}

// elsewhere are the other actions of screens with lists: on the whole screen, on its form or on marks, and those that show the
// row (their content is compared by TestCandidateDetails and the golden files).
func elsewhere() []string {
	return []string{
		"search.toggle", "search.target", "search.details", "search.cut", "search.stop", "search.start", "search.inject", "search.workers", "search.drain", "search.prompt", "search.gather", "search.list",
		"search.log", "search.zoom", "search.first", "search.last", "search.copy", "search.down", "search.up", "search.pagedown", "search.pageup", "search.left", "search.right", "search.next", "search.previous",
		"library.details", "library.mark", "library.compare", "library.empty", "library.sort", "library.reverse", "library.import", "library.fit", "library.copy",
		"library.down", "library.up", "library.pagedown", "library.pageup", "library.first", "library.last",
		"masks.in", "masks.out", "masks.toggle", "masks.block", "masks.save", "masks.like", "masks.equalise", "masks.range", "masks.all", "masks.blockback", "masks.sort",
		"masks.finer", "masks.coarser", "masks.open", "masks.diff", "masks.measure", "masks.vocab", "masks.chat", "masks.reform", "masks.steps", "masks.copy", "masks.down", "masks.up",
		"masks.extenddown", "masks.extendup", "masks.extendright", "masks.extendleft", "masks.pagedown", "masks.pageup", "masks.first", "masks.last",
		"bench.start", "bench.stop", "bench.list", "bench.chart", "bench.export", "bench.copy", "bench.first", "bench.last", "bench.down", "bench.up", "bench.pagedown", "bench.pageup",
	}
}

// TestKeysActOnTheHighlightedRow presses every key that acts on a row, on every row of every list, and compares the row that is
// highlighted on the screen with the subject of the command.
func TestKeysActOnTheHighlightedRow(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	rec := &recorder{Exploration: ex}
	lists := map[string][]string{"search": {"population", "front"}, "library": {"library"}, "masks": {"layers"}, "bench": {"speed and memory"}}
	for _, a := range allActions() {
		if lists[a.Scope] == nil {
			continue
		}
		_, on := onRows()[a.ID]
		if on == slices.Contains(elsewhere(), a.ID) {
			t.Errorf("%s: is it about the row under the cursor?", a.ID)
		}
	}
	for scope, titles := range lists {
		for k, title := range titles {
			t.Run(title, func(t *testing.T) {
				walkRows(t, rec, ex, b, scope, title, k)
			})
		}
	}
}

func walkRows(t *testing.T, rec *recorder, ex *explorer.Exploration, b *explorertest.Backend, scope, title string, toggles int) {
	fresh := func(row int) *loop {
		l := newLoopOver(t, ex, b, 140, 60, func(o *Options) { o.Screen = scope })
		l.m.ex = rec
		l.press("esc")
		for range toggles {
			l.press("f")
		}
		for range row {
			l.press("down")
		}
		return l
	}
	rows := 0
	for last := ""; rows < 40; rows++ {
		_, at := highlighted(fresh(rows), title)
		if at == "" {
			t.Fatalf("no row is highlighted after %d steps down", rows)
		}
		if at == last {
			break
		}
		last = at
	}
	if rows < 3 {
		t.Fatalf("the list has %d rows", rows)
	}
	for row := range rows {
		for id, forms := range onRows() {
			if !strings.HasPrefix(id, scope+".") {
				continue
			}
			rec.take()
			l := fresh(row)
			want, _ := highlighted(l, title)
			if !allowed(l, id) {
				continue
			}
			l.press(keyOf(l, id))
			for range forms {
				l.until("a form", func() bool { return len(l.m.overlays) > 0 || rec.given() })
				if rec.given() {
					break // the candidate is adopted first
				}
				if id == "masks.top" {
					l.press("ctrl+u", "3")
				}
				l.press("enter")
			}
			if scope == "masks" && l.m.draft.Idle() && (id == "masks.restore" || id == "masks.grow") {
				continue // the layer is whole
			}
			var got []string
			l.until(id+" to act", func() bool { got = outcome(l, rec); return got != nil })
			if !slices.Contains(got, want) {
				t.Errorf("%s with %s highlighted acts on %v", id, want, got)
			}
		}
	}
}

// outcome returns the names of what a key acted on: the subject of its command, the chat that it went to, or the subnet that a
// message names. nil: nothing yet.
func outcome(l *loop, rec *recorder) []string {
	s := l.m.snap
	if c := rec.take(); c != nil {
		return subjectOf(s, c)
	}
	if l.on("chat") {
		for _, c := range s.Chats {
			if len(c.Columns) == 2 && strings.Contains(l.screen(), c.Name) {
				return names(s, c.Columns[1].Subnet)
			}
		}
	}
	for _, n := range s.Subnets {
		if strings.Contains(l.screen(), n.Name+" is in the library") {
			return names(s, n.ID)
		}
	}
	return nil
}

func keyOf(l *loop, id string) string {
	for _, a := range allActions() {
		if a.ID == id {
			return a.Keys[0]
		}
	}
	l.t.Fatalf("no action %s", id)
	return ""
}

// allowed reports whether an action can run now.
func allowed(l *loop, id string) bool { return host{l.m}.Blocked(id) == "" }

// highlighted returns what names the row with the cursor in the pane with a title: a candidate's number, a name, a layer.
// row is the whole row.
func highlighted(l *loop, title string) (name, row string) {
	inside, left := false, 0
	for _, line := range strings.Split(l.screen(), "\n") {
		cells := []rune(line)
		if i := strings.Index(line, "╭ "+title); i >= 0 {
			inside, left = true, len([]rune(line[:i]))
			continue
		}
		if !inside || len(cells) <= left+3 {
			continue
		}
		if string(cells[left:left+2]) == "│▸" {
			rest := strings.TrimSpace(string(cells[left+2:]))
			if f := strings.Fields(rest); title != "library" && title != "speed and memory" {
				return f[0], rest
			}
			name, _, _ := strings.Cut(rest, "  ")
			return name, rest
		}
	}
	return "", ""
}

// names returns the name of a subnet and the numbers of the candidates that it was made from.
func names(s *explorer.Snapshot, id explorer.SubnetID) []string {
	n, ok := s.Subnet(id)
	if !ok {
		return []string{string(id)}
	}
	out := []string{n.Name}
	for _, c := range slices.Concat(s.Search.Population, s.Search.Front) {
		if kept, ok := s.Kept(c); ok && kept.ID == id {
			out = append(out, strconv.Itoa(c.ID))
		}
	}
	return out
}

// subjectOf returns the names, as lists show them, of what a command is about.
func subjectOf(s *explorer.Snapshot, c explorer.Command) []string {
	of := func(id explorer.SubnetID) []string { return names(s, id) }
	switch c := c.(type) {
	case explorer.Adopt:
		return []string{strconv.Itoa(c.Candidate)}
	case explorer.OpenChat:
		return of(c.Subnets[len(c.Subnets)-1])
	case explorer.Probe:
		return of(c.Subnets[len(c.Subnets)-1])
	case explorer.SetColumns:
		return of(c.Subnets[len(c.Subnets)-1])
	case explorer.Checkout:
		return of(c.Subnet)
	case explorer.Refit:
		return of(c.Subnet)
	case explorer.StartBench:
		return of(c.Settings.Subnets[len(c.Settings.Subnets)-1])
	case explorer.Export:
		return of(c.Subnet)
	case explorer.Quantize:
		return of(c.Subnet)
	case explorer.Measure:
		return of(c.Subnet)
	case explorer.RenameSubnet:
		return of(c.Subnet)
	case explorer.AnnotateSubnet:
		return of(c.Subnet)
	case explorer.DuplicateSubnet:
		return of(c.Subnet)
	case explorer.DeleteSubnet:
		return of(c.Subnet)
	case explorer.Inject:
		return of(c.Subnet)
	case explorer.Edit:
		masks, err := draft.Apply(s.Draft.Masks, s.Statistics.Importance, c.Mutations...)
		if err != nil {
			return []string{err.Error()}
		}
		var out []string
		for i := range masks.Layers() {
			if !masks.Layer(i).Equal(s.Draft.Masks.Layer(i)) {
				out = append(out, strconv.Itoa(i))
			}
		}
		return out
	}
	return []string{fmt.Sprintf("%T", c)}
}

// TestHighlightDuringSearch compares the highlighted candidate with the one that keys act on while generations come and go and
// the cursor was not moved.
func TestHighlightDuringSearch(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	steps := make(chan struct{})
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "candidates" {
			return nil
		}
		select {
		case <-steps:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	rec := &recorder{Exploration: ex, unsorted: true}
	receipt, err := ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoopOver(t, ex, b, 140, 60, nil)
	l.m.ex = rec
	shown := 0
	for i := range 60 {
		steps <- struct{}{}
		l.until("a candidate", func() bool { return l.m.snap.Search.Evaluated >= i+1 && l.m.snap.Search.Best != nil })
		want, _ := highlighted(l, "population")
		ok := want != ""
		l.press("a")
		var c explorer.Command
		l.until("a command", func() bool { c = rec.take(); return c != nil })
		if got := subjectOf(l.m.snap, c); ok && !slices.Contains(got, want) {
			t.Fatalf("after %d candidates #%s is highlighted and a adopts %v", i, want, got)
		} else if !ok && got[0] != strconv.Itoa(l.m.snap.Search.Best.ID) {
			t.Fatalf("nothing is highlighted and a adopts %v instead of the best", got)
		}
		if ok {
			shown++
		}
		l.press("esc")
	}
	if shown == 0 {
		t.Error("no candidate was highlighted")
	}
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.StopJob{Job: receipt.Job}); err != nil {
		t.Fatal(err)
	}
	explorertest.Ended(t, ex, receipt.Job)
}
