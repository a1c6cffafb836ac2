package explorer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/durable"
)

// yieldPatience bounds how long an exchange waits for running jobs to pause before it starts beside them.
const yieldPatience = 5 * time.Second

// streamEvery bounds how often a growing reply makes a new snapshot.
const streamEvery = 25 * time.Millisecond

// exchange changes a chat so that it ends with a prompt, and has every column answer it; then the same with the other turns, unless
// the replies are stopped.
func (e *Exploration) exchange(ctx context.Context, a Actor, id ChatID, turns ...func(*Snapshot, *Chat) error) (Receipt, error) {
	talk, cancel := context.WithCancel(infer.WithQueueOwner(e.talks.ctx, a.Name))
	x := exchange{a.Name, cancel}
	if err := e.talks.begin(id, x); err != nil {
		cancel()
		return Receipt{}, err
	}
	ask := func(ctx context.Context, change func(*Snapshot, *Chat) error) error {
		_, err := e.changeChat(ctx, a, id, func(s *Snapshot, chat *Chat) error {
			if err := change(s, chat); err != nil {
				return err
			}
			chat.Busy = true
			for i := range chat.Columns {
				column := &chat.Columns[i]
				column.Err = ""
				column.Replies[len(column.Replies)-1] = Reply{Started: e.now().UTC(), Streaming: true, Agreement: -1}
			}
			return nil
		})
		return err
	}
	if err := ask(ctx, turns[0]); err != nil {
		e.talks.end(id)
		cancel()
		return Receipt{}, err
	}
	e.talks.wg.Go(func() {
		defer cancel()
		e.answer(talk, id)
		var failed error
		for _, turn := range turns[1:] {
			if talk.Err() != nil {
				break
			}
			if failed = e.talks.persist(talk, id, x, func() error { return ask(talk, turn) }); failed != nil {
				break
			}
			e.answer(talk, id)
		}
		err := e.talks.persist(talk, id, x, func() error {
			_, err := e.changeChat(context.WithoutCancel(talk), a, id, func(_ *Snapshot, chat *Chat) error {
				chat.Busy = false
				e.talks.end(id) // with the change, so that a viewer who sees the chat idle can use it
				return nil
			})
			return err
		})
		if err != nil {
			e.talks.end(id)
			e.showIdle(id)
		}
		if err = errors.Join(failed, err); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, context.Canceled) {
			e.notify(Failure, a.Name, "the chat could not be saved: "+oneLine(err.Error()))
		}
	})
	return Receipt{Chat: id}, nil
}

// begin counts an exchange among those under way, unless there are too many.
func (t *talks) begin(id ChatID, x exchange) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.running[id]; busy {
		return fmt.Errorf("%w: chat %s is answering", ErrBusy, id)
	}
	own := 0
	for _, other := range t.running {
		if other.author == x.author {
			own++
		}
	}
	if own >= maxAnsweringOne || len(t.running) >= maxAnswering {
		return fmt.Errorf("%w: %d answers are under way, %d of them yours", ErrBusy, len(t.running), own)
	}
	t.running[id] = x
	return nil
}

func (t *talks) end(id ChatID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, id)
}

// persist calls write, and again while the disk is full, until the exchange is stopped.
func (t *talks) persist(ctx context.Context, id ChatID, x exchange, write func() error) error {
	err := write()
	if !durable.IsFull(err) || ctx.Err() != nil {
		return err
	}
	t.e.notify(Warning, x.author, "the chat is paused until there is room: "+oneLine(err.Error()))
	t.e.setPaused(oneLine(err.Error()))
	defer t.e.setPaused("")
	for durable.IsFull(err) {
		t.mu.Lock()
		t.running[id] = x // it can still be stopped
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryAfter):
		}
		err = write()
	}
	if err == nil {
		t.e.notify(Info, x.author, "the chat continues: there is room again")
	}
	return err
}

// showIdle shows a chat that could not be saved as one that does not answer.
func (e *Exploration) showIdle(id ChatID) {
	e.update(SectionChats, func(s *Snapshot) {
		if at := slices.IndexFunc(s.Chats, func(c Chat) bool { return c.ID == id }); at >= 0 {
			s.Chats = slices.Clone(s.Chats)
			s.Chats[at].Busy = false
		}
	})
}

func (t *talks) stop(id ChatID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, ok := t.running[id]
	if !ok {
		return fmt.Errorf("chat %s: %w among those answering", id, ErrNotFound)
	}
	x.cancel()
	return nil
}

// answer has all columns answer the last prompt at once, sharing the cores, while jobs are paused.
func (e *Exploration) answer(ctx context.Context, id ChatID) {
	release := e.jobs.Interrupt(ctx, yieldPatience)
	defer release()
	chat, ok := e.Snapshot().Chat(id)
	if !ok {
		return
	}
	threads := 0
	if n := len(chat.Columns); n > 1 {
		threads = max(1, runtime.NumCPU()/n)
	}
	tokens := make([][]int32, len(chat.Columns))
	var wg sync.WaitGroup
	for i := range chat.Columns {
		wg.Go(func() {
			var err error
			tokens[i], err = e.reply(ctx, chat, i, threads)
			e.showReply(id, i, func(_ *Column, r *Reply) {
				r.Streaming = false
				if errors.Is(err, context.Canceled) {
					r.Stopped = true
				} else if err != nil {
					r.Err, r.Cause = oneLine(err.Error()), err
				}
			})
		})
	}
	wg.Wait()
	e.agree(ctx, chat, tokens)
}

// messages are the conversation as a column saw it, up to its last prompt, without the first turns. Turns whose reply failed
// are not part of it.
func (c Chat) messages(column, leftOut int) []infer.Message {
	var out []infer.Message
	if strings.TrimSpace(c.System) != "" {
		out = append(out, infer.Message{Role: infer.System, Content: c.System})
	}
	for i, p := range c.Prompts {
		last := i == len(c.Prompts)-1
		if c.Apart && !last {
			continue
		}
		if r := c.Columns[column].Replies[i]; !last && (i < leftOut || r.Err != "" && r.Text == "") {
			continue
		}
		out = append(out, infer.Message{Role: infer.User, Content: p.Text})
		if !last {
			out = append(out, infer.Message{Role: infer.Assistant, Content: c.Columns[column].Replies[i].Text})
		}
	}
	return out
}

// recent returns the conversation for the last prompt, with as many of its latest turns as the context has room for besides a
// reply, and how many it leaves out. The last prompt is always in it.
func (c Chat) recent(ctx context.Context, model infer.Model, column int) (messages []infer.Message, leftOut int) {
	last := len(c.Prompts) - 1
	if c.Apart {
		return c.messages(column, 0), 0
	}
	if last > 0 {
		leftOut = c.Columns[column].Replies[last-1].LeftOut
	}
	size := model.Info().Context
	room := size / 4 // for a reply
	if most := c.Sampling.MaxTokens; most > 0 {
		room = min(room, most)
	}
	for ; ; leftOut++ {
		messages = c.messages(column, leftOut)
		if leftOut >= last {
			return messages, leftOut
		}
		if p, err := model.Prompt(ctx, messages); err != nil || len(p.Tokens)+room <= size { // the reply has the same error
			return messages, leftOut
		}
	}
}

// reply has one column answer and returns its tokens.
func (e *Exploration) reply(ctx context.Context, chat Chat, i, threads int) ([]int32, error) {
	ctx = infer.WithQueueTrace(ctx, func(position int) {
		e.showReply(chat.ID, i, func(c *Column, _ *Reply) { c.Place = position })
	})
	e.showReply(chat.ID, i, func(c *Column, _ *Reply) { c.Loading = true })
	g, give, err := e.talks.borrow(ctx, chat.Columns[i].Subnet, chat.GPU)
	e.showReply(chat.ID, i, func(c *Column, _ *Reply) {
		if c.Loading = false; err != nil {
			c.Err = oneLine(err.Error())
		}
	})
	if err != nil {
		return nil, err
	}
	defer give()
	model := g.Model
	if err := model.SetThreads(threads); err != nil {
		return nil, err
	}
	place := func(c *Column) {
		info := model.Info()
		c.Memory, c.GPUMemory, c.Context, c.Placement, c.Fallback = g.Memory.Total(), g.Memory.GPU, info.Context, info.Placement, info.Fallback
		if info.GPULayers == 0 {
			c.GPUMemory = 0 // the model was on a GPU when its memory was measured
		}
	}
	if fallback := model.Info().Fallback; fallback != "" && chat.Columns[i].Fallback != fallback {
		e.notify(Warning, "", "without the GPU: "+fallback)
	}
	e.showReply(chat.ID, i, func(c *Column, _ *Reply) { place(c) })
	var text strings.Builder
	var tokens []int32
	var shown time.Time
	began := e.now()
	messages, leftOut := chat.recent(ctx, model, i)
	if leftOut > 0 {
		e.showReply(chat.ID, i, func(_ *Column, r *Reply) { r.LeftOut = leftOut })
		e.notify(Warning, "", fmt.Sprintf("the context of %d tokens is full: the prompt is without the conversation's first %d turns", model.Info().Context, leftOut))
	}
	stats, err := model.Chat(ctx, messages, chat.Sampling, func(t infer.Token) error {
		text.WriteString(printable(t.Text))
		tokens = append(tokens, t.ID) // with the end token, which is not counted
		if now := e.now(); len(tokens) == 1 || now.Sub(shown) >= streamEvery {
			shown = now
			e.showReply(chat.ID, i, func(_ *Column, r *Reply) {
				r.Text, r.Tokens = text.String(), len(tokens)
				if len(tokens) == 1 {
					r.FirstToken = now.Sub(began)
				} else if d := now.Sub(began) - r.FirstToken; d > 0 {
					r.TokensPerSecond = float64(len(tokens)-1) / d.Seconds()
				}
			})
		}
		return nil
	})
	e.showReply(chat.ID, i, func(c *Column, r *Reply) {
		r.Text, r.Tokens, r.PromptTokens = text.String(), stats.Tokens, stats.PromptTokens
		r.FirstToken, r.TokensPerSecond, r.Warning = stats.FirstToken, stats.TokensPerSecond, stats.Warning
		place(c)
		c.Used, c.Context = stats.ContextUsed, stats.Context
	})
	if stats.Warning != "" {
		e.notify(Warning, "", stats.Warning)
	}
	return tokens, err
}

// showReply publishes a column of a chat with its last reply changed.
func (e *Exploration) showReply(id ChatID, column int, change func(*Column, *Reply)) {
	e.update(SectionChats, func(s *Snapshot) {
		at := slices.IndexFunc(s.Chats, func(c Chat) bool { return c.ID == id })
		if at < 0 || column >= len(s.Chats[at].Columns) {
			return
		}
		s.Chats = slices.Clone(s.Chats)
		chat := &s.Chats[at]
		chat.Columns = slices.Clone(chat.Columns)
		c := &chat.Columns[column]
		if len(c.Replies) == 0 {
			return
		}
		c.Replies = slices.Clone(c.Replies)
		change(c, &c.Replies[len(c.Replies)-1])
	})
}

// agree computes how many tokens of the other columns the dense model, if it has a column, would have chosen too.
func (e *Exploration) agree(ctx context.Context, chat Chat, tokens [][]int32) {
	dense := slices.IndexFunc(chat.Columns, func(c Column) bool { return c.Subnet == DenseID })
	if dense < 0 || len(chat.Columns) < 2 || ctx.Err() != nil {
		return
	}
	g, give, err := e.talks.borrow(ctx, DenseID, chat.GPU)
	if err != nil {
		return
	}
	defer give()
	model := g.Model
	for i := range chat.Columns {
		if i == dense || len(tokens[i]) == 0 {
			continue
		}
		replied, ok := e.Snapshot().Chat(chat.ID)
		if !ok || len(replied.Columns) <= i {
			return
		}
		prompt, err := model.Prompt(ctx, chat.messages(i, replied.Columns[i].Replies[len(chat.Prompts)-1].LeftOut))
		if err != nil {
			return
		}
		window := append(slices.Clone(prompt.Tokens), tokens[i]...)
		positions, err := model.Distributions(ctx, [][]int32{window}, infer.DistributionOptions{})
		if err != nil || len(positions) == 0 || len(positions[0]) < len(tokens[i]) {
			return
		}
		same := 0
		last := positions[0][len(positions[0])-len(tokens[i]):]
		for _, p := range last {
			if p.Greedy {
				same++
			}
		}
		e.showReply(chat.ID, i, func(_ *Column, r *Reply) { r.Agreement = float64(same) / float64(len(last)) })
	}
}
