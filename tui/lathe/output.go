package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"golang.org/x/term"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
)

// result writes the result of a command: v as one JSON object with --json, otherwise what words writes.
func (a *app) result(v any, words func(io.Writer)) error {
	if !a.json {
		words(a.stdout)
		return nil
	}
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// table writes rows in aligned columns.
func table(w io.Writer, rows ...[]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// note writes a line that is no part of the result.
func (a *app) note(line string, args ...any) {
	p := progress{w: a.stderr}
	p.line(fmt.Sprintf(line, args...))
}

// isTerminal reports whether a stream is a terminal, of this machine or of a server's client.
func isTerminal(stream any) bool {
	switch s := stream.(type) {
	case clientTerminal:
		return true
	case interface{ Fd() uintptr }:
		return term.IsTerminal(int(s.Fd()))
	}
	return false
}

// dumb reports whether the terminal understands no escape sequences, or what it understands is unknown.
func (a *app) dumb() bool {
	switch a.getenv("TERM") {
	case "dumb":
		return true
	case "":
		return runtime.GOOS != "windows"
	}
	return false
}

// animates reports whether standard error is a terminal on which a line can be overwritten.
func (a *app) animates() bool { return isTerminal(a.stderr) && !a.dumb() }

// start runs a command that starts a job, shows its progress until it ends, and returns the job. Cancelling ctx stops the job
// and waits for it; a search on a server continues.
func (a *app) start(ctx context.Context, e exploration, c explorer.Command) (explorer.Job, error) {
	receipt, err := e.Do(ctx, a.actor(), c)
	if err != nil {
		return explorer.Job{}, err
	}
	return a.follow(ctx, e, receipt.Job, nil)
}

// follow shows a job's progress until it ends. each, if not nil, is called with every new snapshot.
func (a *app) follow(ctx context.Context, e exploration, id explorer.JobID, each func(*explorer.Snapshot) error) (explorer.Job, error) {
	p := progress{w: a.stderr, live: a.animates(), now: time.Now}
	defer p.clear()
	for {
		s := e.Snapshot()
		job, _ := s.Job(id)
		for _, m := range s.Messages {
			if m.ID > a.lastMessage {
				a.lastMessage = m.ID
				if job.State != explorer.Failed { // the command returns the job's failure as its error
					p.line(m.Text)
				}
			}
		}
		if each != nil {
			if err := each(s); err != nil {
				return job, err
			}
		}
		switch job.State {
		case explorer.Done:
			return job, nil
		case explorer.Failed:
			return job, fmt.Errorf("%s: %w", job.Title, job.Cause)
		case explorer.Stopped:
			return job, context.Canceled
		default: // nothing for the others
		}
		p.show(job)
		wait, cancel := context.WithTimeout(ctx, tickEvery)
		err := e.Wait(wait, s.Revision)
		cancel()
		if err != nil && ctx.Err() == nil && wait.Err() != nil { // nothing is new but the time
			continue
		}
		if err != nil {
			if a.shared != nil && job.Kind == explorer.JobSearch {
				p.line("the search continues; `search stop` ends it")
				return job, err
			}
			p.line(stopping(s, job))
			if _, stop := e.Do(context.WithoutCancel(ctx), a.actor(), explorer.StopJob{Job: id}); stop != nil && !errors.Is(stop, explorer.ErrNotFound) {
				return job, errors.Join(err, stop)
			}
			ctx = context.WithoutCancel(ctx)
		}
	}
}

// stopping describes what happens to a job that the user interrupts.
func stopping(s *explorer.Snapshot, j explorer.Job) string {
	switch {
	case j.Kind != explorer.JobSearch:
		return "stopping"
	case s.Workspace.Path == "" || s.Search.Job != j.ID || s.Search.Evaluated == 0:
		return "stopping the search: it has found nothing yet"
	}
	return "stopping the search; what it has found stays, and `lathe search --resume` continues it"
}

// progress shows the progress of a job: on a terminal in one line that is overwritten, elsewhere in a new line every
// plainEvery.
type progress struct {
	w     io.Writer
	live  bool
	now   func() time.Time
	shown time.Time // when text was written
	text  string    // the line that is on the terminal
}

// How often a line is drawn.
const (
	liveEvery  = 100 * time.Millisecond
	tickEvery  = time.Second // also where nothing is reported
	plainEvery = 10 * time.Second
)

func (p *progress) show(j explorer.Job) {
	every := plainEvery
	if p.live {
		every = liveEvery
	}
	now := p.now()
	if p.shown.IsZero() && !p.live {
		p.shown = now // no line for a job that ends at once
		return
	}
	if now.Sub(p.shown) < every {
		return
	}
	line := describe(j, now)
	if line == p.text {
		return
	}
	p.shown, p.text = now, line
	if p.live {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	} else {
		fmt.Fprintln(p.w, line)
	}
}

// line writes a message in a line of its own.
func (p *progress) line(text string) {
	p.clear()
	fmt.Fprintf(p.w, "lathe: %s\n", text)
}

// clear removes the progress line from the terminal.
func (p *progress) clear() {
	if p.live && p.text != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.text = ""
	}
}

// describe returns a job's progress in one line: "cut to 0.80 · layer 12 · 12/30 layers · 1.4/s · 0:13 left".
func describe(j explorer.Job, now time.Time) string {
	parts := []string{j.Title}
	if j.State != explorer.Running {
		parts = append(parts, string(j.State))
	}
	if j.Reason != "" {
		parts = append(parts, j.Reason)
	}
	p := j.Progress
	if phase := phaseOf(j); phase != "" {
		parts = append(parts, phase)
	}
	if p.Step != "" {
		parts = append(parts, p.Step)
	}
	switch {
	case p.Unit == "bytes" && p.Total > 0:
		parts = append(parts, fmt.Sprintf("%s of %s", format.Bytes(int64(p.Done)), format.Bytes(int64(p.Total))))
	case p.Total > 0:
		parts = append(parts, fmt.Sprintf("%.0f/%.0f %s", p.Done, p.Total, p.Unit))
	case p.Done > 0:
		parts = append(parts, fmt.Sprintf("%.0f %s", p.Done, p.Unit))
	}
	switch {
	case p.Rate > 0 && p.Unit == "bytes":
		parts = append(parts, format.Bytes(int64(p.Rate))+"/s")
	case p.Rate > 0 && p.Unit != "seconds":
		parts = append(parts, fmt.Sprintf("%.3g/s", p.Rate))
	}
	if d, what := p.Clock(now); d >= time.Second {
		parts = append(parts, format.Clock(d)+" "+what)
	}
	return strings.Join(parts, " · ")
}

// warnFallback reports why a model runs with fewer layers on a GPU than was asked for.
func (a *app) warnFallback(i infer.Info) {
	if i.Fallback != "" {
		fmt.Fprintf(a.stderr, "lathe: warning: without the GPU: %s\n", i.Fallback)
	}
}
