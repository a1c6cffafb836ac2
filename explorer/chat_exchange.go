package explorer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
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
			chat.Busy, chat.Pausing = true, true
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
		chat, replies := e.answer(talk, id)
		var failed error
		for _, turn := range turns[1:] {
			if talk.Err() != nil {
				break
			}
			e.compareReplies(talk, chat, replies)
			if failed = e.talks.persist(talk, id, x, func() error { return ask(talk, turn) }); failed != nil {
				break
			}
			chat, replies = e.answer(talk, id)
		}
		compares := talk.Err() == nil
		err := e.talks.persist(talk, id, x, func() error {
			_, err := e.changeChat(context.WithoutCancel(talk), a, id, func(_ *Snapshot, chat *Chat) error {
				chat.Busy = false
				if compares {
					chat.Comparing++
				}
				e.talks.end(id) // with the change, so that a viewer who sees the chat idle can use it
				return nil
			})
			return err
		})
		if err != nil {
			e.talks.end(id)
			e.showIdle(id)
		} else if compares { // the next prompt does not wait for it
			err = e.compareBehind(talk, a, chat, replies)
		}
		if err = errors.Join(failed, err); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, context.Canceled) {
			e.notify(Failure, a.Name, "the chat could not be saved: "+oneLine(format.Error(err)))
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
	t.e.notify(Warning, x.author, "the chat is paused until there is room: "+oneLine(format.Error(err)))
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

// answer has all columns answer the last prompt at once, sharing the cores, while jobs are paused. It returns the chat as it was before,
// and what was generated.
func (e *Exploration) answer(ctx context.Context, id ChatID) (Chat, []replied) {
	release := e.jobs.Interrupt(ctx, yieldPatience)
	defer release()
	e.update(SectionChats, func(s *Snapshot) {
		if k := slices.IndexFunc(s.Chats, func(c Chat) bool { return c.ID == id }); k >= 0 {
			s.Chats = slices.Clone(s.Chats)
			c := &s.Chats[k]
			c.Pausing, c.Columns = false, slices.Clone(c.Columns)
			for i := range c.Columns {
				c.Columns[i].Loading = true // until it is known whether it is
			}
		}
	})
	chat, ok := e.Snapshot().Chat(id)
	if !ok {
		return Chat{}, nil
	}
	threads := 0
	if n := len(chat.Columns); n > 1 {
		threads = max(1, runtime.NumCPU()/n)
	}
	replies := make([]replied, len(chat.Columns))
	var wg sync.WaitGroup
	for i := range chat.Columns {
		wg.Go(func() {
			var err error
			replies[i], err = e.reply(ctx, chat, i, threads)
			e.showReply(id, i, func(_ *Column, r *Reply) {
				r.Streaming = false
				if errors.Is(err, context.Canceled) {
					r.Stopped = true
				} else if err != nil {
					r.Err, r.Cause = oneLine(format.Error(err)), err
				}
			})
		})
	}
	wg.Wait()
	return chat, replies
}

// messages are the conversation as a column saw it, up to its last prompt, without the first turns. Turns whose reply failed
// or was stopped before its first word are not part of it.
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
		if r := c.Columns[column].Replies[i]; !last && (i < leftOut || (r.Err != "" || r.Stopped) && r.Text == "") {
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

// reply has one column answer and returns what it generated.
func (e *Exploration) reply(ctx context.Context, chat Chat, i, threads int) (said replied, err error) {
	ctx = infer.WithQueueTrace(ctx, func(position int) {
		e.showReply(chat.ID, i, func(c *Column, _ *Reply) { c.Place = position })
	})
	e.showReply(chat.ID, i, func(c *Column, _ *Reply) { c.Loading = true })
	g, give, err := e.talks.borrow(ctx, chat.Columns[i].Subnet, chat.GPU)
	e.showReply(chat.ID, i, func(c *Column, _ *Reply) {
		if c.Loading = false; err != nil {
			c.Err = oneLine(format.Error(err))
		}
	})
	if err != nil {
		return said, err
	}
	defer give()
	model := g.Model
	if err := model.SetThreads(threads); err != nil {
		return said, err
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
	var shown time.Time
	var arrived []time.Time // of the tokens
	began := e.now()
	messages, leftOut := chat.recent(ctx, model, i)
	if leftOut > 0 {
		e.showReply(chat.ID, i, func(_ *Column, r *Reply) { r.LeftOut = leftOut })
		e.notify(Warning, "", fmt.Sprintf("the context of %d tokens is full: the prompt is without the conversation's first %s", model.Info().Context, format.Counted(leftOut, "turn")))
	}
	stats, err := model.Chat(ctx, messages, chat.Sampling, func(t infer.Token) error {
		text.WriteString(printable(t.Text))
		said.tokens = append(said.tokens, t.ID) // with the end token, which is not counted
		said.texts = append(said.texts, printable(t.Text))
		arrived = append(arrived, e.now())
		if now := e.now(); len(said.tokens) == 1 || now.Sub(shown) >= streamEvery {
			shown = now
			e.showReply(chat.ID, i, func(_ *Column, r *Reply) {
				r.Text, r.Tokens = text.String(), len(said.tokens)
				if len(said.tokens) == 1 {
					r.FirstToken = now.Sub(began)
				} else if d := now.Sub(began) - r.FirstToken; d > 0 {
					r.TokensPerSecond = float64(len(said.tokens)-1) / d.Seconds()
				}
			})
		}
		return nil
	})
	e.showReply(chat.ID, i, func(c *Column, r *Reply) {
		r.Text, r.Tokens, r.PromptTokens = text.String(), stats.Tokens, stats.PromptTokens
		r.FirstToken, r.TokensPerSecond, r.Warning = stats.FirstToken, stats.TokensPerSecond, stats.Warning
		if err != nil { // an engine that was stopped may count nothing
			r.Tokens = max(r.Tokens, len(said.tokens))
		}
		r.Deviation = deviation(arrived)
		place(c)
		c.Used, c.Context = stats.ContextUsed, stats.Context
	})
	if stats.Warning != "" {
		e.notify(Warning, "", stats.Warning)
	}
	return said, err
}

// speedParts is into how many parts of equal length a reply is divided for the deviation of its speed, and leastPart the tokens of each.
const speedParts, leastPart = 5, 4

// deviation returns the standard deviation of the speed between parts of a reply whose tokens arrived at so many times.
func deviation(arrived []time.Time) float64 {
	if len(arrived) <= speedParts*leastPart {
		return 0
	}
	var sum, squares float64
	for i := range speedParts {
		from, to := i*(len(arrived)-1)/speedParts, (i+1)*(len(arrived)-1)/speedParts
		d := arrived[to].Sub(arrived[from]).Seconds()
		if d <= 0 {
			return 0
		}
		v := float64(to-from) / d
		sum, squares = sum+v, squares+v*v
	}
	return math.Sqrt(max(0, squares-sum*sum/speedParts) / (speedParts - 1))
}

// showReply publishes a column of a chat with its last reply changed.
func (e *Exploration) showReply(id ChatID, column int, change func(*Column, *Reply)) {
	e.showReplyAt(id, column, -1, change)
}

// showReplyAt is showReply for the reply to prompt n, -1 for the last.
func (e *Exploration) showReplyAt(id ChatID, column, n int, change func(*Column, *Reply)) {
	e.update(SectionChats, func(s *Snapshot) {
		k := slices.IndexFunc(s.Chats, func(c Chat) bool { return c.ID == id })
		if k < 0 || column >= len(s.Chats[k].Columns) {
			return
		}
		s.Chats = slices.Clone(s.Chats)
		chat := &s.Chats[k]
		chat.Columns = slices.Clone(chat.Columns)
		c := &chat.Columns[column]
		at := n
		if at < 0 {
			at = len(c.Replies) - 1
		}
		if at < 0 || at >= len(c.Replies) {
			return
		}
		c.Replies = slices.Clone(c.Replies)
		change(c, &c.Replies[at])
	})
}
