package explorer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// Answers are what new best candidates of a search reply to one prompt, which shows what a divergence means.
type Answers struct {
	Job    JobID  `json:"-"` // the search, while it is of this process
	Prompt string // "" where nothing answers
	Dense  Answer // of the dense model
	Best   []Answer
	// Busy reports that an answer is being generated: Now, once its first token is there. The search is paused meanwhile.
	Busy bool    `json:"-"`
	Now  *Answer `json:"-"`
	Err  string  // why there was no last answer; one line
}

// An Answer is one reply to the prompt of a search.
type Answer struct {
	Candidate int      // 0 for the dense model, and for the subnet that the search has ended with
	Subnet    SubnetID `json:",omitempty"` // that subnet
	Ratio     float64
	Relative  float64 // perplexity over that of the dense model, 0 if unknown
	Text      string
	Tokens    int
	At        time.Time
	Took      time.Duration // writing and loading the model included
}

// DefaultPrompt is what the explorer has new best candidates answer.
const DefaultPrompt = "What is the moon?"

// Bounds of answers.
const (
	answerTokens   = 48
	answerContext  = 1024 // tokens, prompt included
	maxAnswers     = 100  // that are kept, the first one among them
	maxAnswerBytes = 1000 // of a prompt
	maxAnswerText  = 16 << 10
	// answerShare is the most that answers may take of the time of a search.
	answerShare = 0.03
	// answerRetry is how soon another candidate is tried after one that could not answer.
	answerRetry = 30 * time.Second
)

// bounded returns the answers as they may be shown, whatever a file holds.
func (a Answers) bounded() Answers {
	clean := func(n Answer) Answer {
		n.Text = printable(n.Text[:min(len(n.Text), maxAnswerText)])
		if !finite(n.Ratio) || !finite(n.Relative) {
			n.Ratio, n.Relative = 0, 0
		}
		return n
	}
	a.Prompt = printable(a.Prompt[:min(len(a.Prompt), maxAnswerBytes)])
	a.Err, a.Dense = oneLine(a.Err), clean(a.Dense)
	best := a.Best
	a.Best = nil
	for _, n := range best[max(0, len(best)-maxAnswers):] {
		a.Best = append(a.Best, clean(n))
	}
	return a
}

// Latest returns the newest answer of a best candidate or, while one is being generated, what there is of it.
func (a Answers) Latest() (Answer, bool) {
	if a.Now != nil && a.Now.Candidate+len(a.Now.Subnet) > 0 {
		return *a.Now, true
	}
	if len(a.Best) == 0 {
		return Answer{}, false
	}
	return a.Best[len(a.Best)-1], true
}

// with returns the answers with one more. The first stays when there are too many.
func (a Answers) with(n Answer) Answers {
	a.Best = append(slices.Clone(a.Best), n)
	if len(a.Best) > maxAnswers {
		a.Best = slices.Delete(a.Best, 1, 2)
	}
	return a
}

// checkAnswered checks the prompt of a search.
func checkAnswered(prompt string) (string, error) {
	if prompt == "" {
		return "", nil
	}
	if len(prompt) > maxAnswerBytes {
		return "", fmt.Errorf("%w: a prompt of %d bytes, more than %d", ErrInvalid, len(prompt), maxAnswerBytes)
	}
	return checkPrompt(prompt)
}

func (c SetPrompt) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	prompt, err := checkAnswered(c.Prompt)
	if err != nil {
		return Receipt{}, err
	}
	if prompt != "" {
		if err := e.Snapshot().Model.Runs(); err != nil {
			return Receipt{}, err
		}
	}
	m, ok := e.jobs.Running(jobs.Background).(*monitor)
	if !ok {
		return Receipt{}, fmt.Errorf("search: %w: none is running", ErrNotFound)
	}
	e.update(SectionSearch, func(s *Snapshot) {
		if s.Answers.Job != m.id || s.Answers.Prompt != prompt {
			s.Answers = Answers{Job: m.id, Prompt: prompt}
		}
	})
	return Receipt{}, e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		if s.Unfinished == nil || s.Unfinished.Search.Prompt == prompt {
			return nil, nil
		}
		u := *s.Unfinished
		u.Search.Prompt = prompt
		return []record{{Search: &searchRecord{UnderWay: &u}}}, nil
	})
}

// answering has new best candidates of a search answer its prompt.
type answering struct {
	e      *Exploration
	m      *monitor
	cancel context.CancelFunc
	ended  chan struct{}
	turn   chan struct{} // taken while an answer is generated, and while times are measured
	timing bool          // it is taken for times; used by measures alone
}

// answerBest has new best candidates answer until stop is called.
func (e *Exploration) answerBest(ctx context.Context, c StartSearch, m *monitor) *answering {
	e.update(SectionSearch, func(s *Snapshot) {
		if !c.Resume || s.Answers.Prompt != c.Prompt {
			s.Answers = Answers{Prompt: c.Prompt}
		}
		s.Answers.Job, s.Answers.Busy, s.Answers.Now = m.id, false, nil
		if err := s.Model.Runs(); err != nil && c.Prompt != "" {
			s.Answers.Err = oneLine(format.Error(err))
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	a := &answering{e: e, m: m, cancel: cancel, ended: make(chan struct{}), turn: make(chan struct{}, 1)}
	m.answers = a
	go func() {
		defer close(a.ended)
		a.run(ctx)
	}()
	return a
}

// stop ends the answers, and returns once none is generated any more.
func (a *answering) stop() {
	a.cancel()
	<-a.ended
}

// measures waits until no answer is generated, and prevents others as long as times are measured: until it is called with false.
func (a *answering) measures(times bool) {
	switch {
	case times && !a.timing:
		a.turn <- struct{}{}
	case !times && a.timing:
		<-a.turn
	}
	a.timing = times
}

// run has each new best candidate answer, as soon as answers have taken little enough of the time.
func (a *answering) run(ctx context.Context) {
	var next time.Time
	tried, prompt := 0, ""
	for ctx.Err() == nil {
		s := a.e.Snapshot()
		if s.Answers.Prompt != prompt { // a new one is answered at once
			prompt, tried, next = s.Answers.Prompt, 0, time.Time{}
		}
		changed := a.e.Changed(s.Revision)
		var wait <-chan time.Time
		if best, ok := a.due(s, tried); ok {
			if d := next.Sub(a.e.now()); d > 0 {
				wait = time.After(min(d, time.Second)) // it may be the clock of a machine that sleeps
			} else {
				began := a.e.now()
				tried = best.ID
				ok := a.best(ctx, best)
				now := a.e.now()
				next = now.Add(time.Duration(float64(now.Sub(began)) * (1 - answerShare) / answerShare))
				if !ok {
					next = later(next, now.Add(answerRetry))
				}
				continue
			}
		}
		select {
		case <-changed:
		case <-wait:
		case <-ctx.Done():
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// due returns the best candidate if it has not answered the prompt, and the search runs: during a chat, for example, it does not.
func (a *answering) due(s *Snapshot, tried int) (Candidate, bool) {
	best := s.Search.Best
	if s.Answers.Job != a.m.id || s.Answers.Prompt == "" || s.Search.Job != a.m.id || best == nil || s.Model.Runs() != nil {
		return Candidate{}, false
	}
	if j, ok := s.Job(a.m.id); !ok || j.State != Running {
		return Candidate{}, false
	}
	if n := len(s.Answers.Best); n > 0 && s.Answers.Best[n-1].Candidate == best.ID {
		return Candidate{}, false
	}
	return *best, tried != best.ID
}

// best has the dense model, unless it has done so, and a candidate answer while jobs are paused. It reports whether there is an answer.
func (a *answering) best(ctx context.Context, c Candidate) bool {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return false
	}
	a.busy(true)
	defer a.busy(false)
	release := a.e.jobs.Interrupt(ctx, yieldPatience)
	defer release()
	s := a.e.Snapshot()
	answer := Answer{Candidate: c.ID, Ratio: c.Ratio}
	if p := c.Score.Perplexity(); p > 0 && s.Search.DensePerplexity > 0 {
		answer.Relative = p / s.Search.DensePerplexity
	}
	return a.answer(ctx, answer, func(ctx context.Context) (gguf.Subnet, error) {
		return a.e.model.Assemble(ctx, c, a.e.folder("search"))
	})
}

// busy shows whether an answer is generated, or waits for jobs to pause.
func (a *answering) busy(on bool) {
	a.e.update(SectionSearch, func(s *Snapshot) {
		if s.Answers.Job == a.m.id {
			if s.Answers.Busy, s.Answers.Now = on, nil; on {
				s.Answers.Err = ""
			}
		}
	})
}

// last has the subnet that the search has ended with answer.
func (a *answering) last(ctx context.Context, id SubnetID) {
	s := a.e.Snapshot()
	n, ok := s.Subnet(id)
	if !ok || s.Answers.Job != a.m.id || s.Answers.Prompt == "" || s.Model.Runs() != nil || ctx.Err() != nil {
		return
	}
	a.answer(ctx, Answer{Subnet: id, Ratio: n.Size.Ratio, Relative: n.Figure().Relative}, func(ctx context.Context) (gguf.Subnet, error) {
		return a.e.loadSubnet(ctx, id)
	})
}

// answer shows what the dense model, unless it has answered before, and a subnet answer.
func (a *answering) answer(ctx context.Context, n Answer, load func(context.Context) (gguf.Subnet, error)) bool {
	prompt := a.e.Snapshot().Answers.Prompt
	show := func(change func(*Answers)) {
		a.e.update(SectionSearch, func(s *Snapshot) {
			if s.Answers.Job == a.m.id && s.Answers.Prompt == prompt { // it may have been changed meanwhile
				change(&s.Answers)
			}
		})
	}
	a.busy(true)
	defer a.busy(false)
	began := a.e.now()
	if a.e.Snapshot().Answers.Dense.At.IsZero() {
		dense, err := a.e.ask(ctx, a.e.Snapshot().Model.Path, prompt, Answer{Ratio: 1, Relative: 1}, func(part Answer) { show(func(s *Answers) { s.Dense = part }) })
		if err != nil {
			return a.failed(ctx, show, fmt.Errorf("the dense model: %w", err))
		}
		dense.At, dense.Took = a.e.now(), a.e.now().Sub(began)
		show(func(s *Answers) { s.Dense = dense })
	}
	began = a.e.now()
	said, err := a.subnet(ctx, prompt, n, load, func(part Answer) { show(func(s *Answers) { s.Now = &part }) })
	if err != nil {
		return a.failed(ctx, show, err)
	}
	said.At, said.Took = a.e.now(), a.e.now().Sub(began)
	show(func(s *Answers) { *s = s.with(said) })
	return true
}

// failed shows why there is no answer, unless the search has ended or is paused.
func (a *answering) failed(ctx context.Context, show func(func(*Answers)), err error) bool {
	if ctx.Err() == nil {
		show(func(s *Answers) { s.Err = oneLine(format.Error(err)) })
	}
	return false
}

// subnet asks a subnet, by a temporary file.
func (a *answering) subnet(ctx context.Context, prompt string, n Answer, load func(context.Context) (gguf.Subnet, error), show func(Answer)) (_ Answer, err error) {
	sub, err := load(ctx)
	if err != nil {
		return n, err
	}
	path := filepath.Join(a.e.scratch, fmt.Sprintf("answer-%s.gguf", cmp.Or(string(n.Subnet), fmt.Sprint(n.Candidate))))
	defer func() {
		if failed := os.Remove(path); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}()
	if _, err := a.e.model.Write(ctx, sub, path, "", silent{}); err != nil {
		return n, err
	}
	return a.e.ask(ctx, path, prompt, n, show)
}

// ask has the model of a file answer a prompt, or continue it where it has no chat template: always with the most likely token, so that
// answers differ by the models alone.
func (e *Exploration) ask(ctx context.Context, path, prompt string, n Answer, show func(Answer)) (_ Answer, err error) {
	o := infer.Defaults(path)
	o.Context = answerContext
	model, err := e.model.Load(ctx, o, nil)
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	var text strings.Builder
	var shown time.Time
	emit := func(t infer.Token) error {
		text.WriteString(printable(t.Text))
		n.Tokens++
		if now := e.now(); n.Tokens == 1 || now.Sub(shown) >= streamEvery {
			shown = now
			n.Text = text.String()
			show(n)
		}
		return nil
	}
	sampling := infer.Sampling{Seed: 1, MaxTokens: answerTokens}
	var stats infer.GenStats
	if e.Snapshot().Model.ChatTemplate {
		stats, err = model.Chat(ctx, []infer.Message{{Role: infer.User, Content: prompt}}, sampling, emit)
	} else {
		var tokens []int32
		if tokens, err = model.Tokenize(ctx, prompt, true); err == nil {
			stats, err = model.Generate(ctx, tokens, sampling, emit)
		}
	}
	n.Text, n.Tokens = text.String(), stats.Tokens
	return n, err
}
