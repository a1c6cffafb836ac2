package explorer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer"
)

// A Piece is a token of a reply, compared with what the dense model would have written after the same text.
type Piece struct {
	Text string `json:"t"`
	// Divergence is the Kullback–Leibler divergence of the subnet's distribution from the dense model's, in nats, over the dense model's
	// most likely tokens and the rest as one: at most the divergence over the whole vocabulary.
	Divergence float64 `json:"d"`
	// Dense is the dense model's most likely token where the subnet has chosen another; "" where it is the same.
	Dense string `json:"o,omitempty"`
	// Parts reports that the two models find different tokens most likely.
	Parts bool `json:"p,omitempty"`
}

// comparedTop is how many of the dense model's most likely tokens divergences are computed on.
const comparedTop = 64

// comparedReplies is of how many replies of a column, the latest ones, the pieces are kept.
const comparedReplies = 8

// Parting returns the first piece at which the subnet and the dense model find different tokens most likely; -1 where there is none.
func (r Reply) Parting() int {
	return slices.IndexFunc(r.Pieces, func(p Piece) bool { return p.Parts })
}

// replied is what a column generated.
type replied struct {
	tokens []int32
	texts  []string // of each token
}

// compareReplies compares the replies to the last prompt of a chat with the dense model, if that has a column: how many of their tokens it would
// have chosen too, and how far apart the distributions are at each token.
func (e *Exploration) compareReplies(ctx context.Context, chat Chat, replies []replied) {
	dense := slices.IndexFunc(chat.Columns, func(c Column) bool { return c.Subnet == DenseID })
	if dense < 0 || len(chat.Columns) < 2 || ctx.Err() != nil {
		return
	}
	for i := range chat.Columns {
		if i == dense || len(replies) <= i || len(replies[i].tokens) == 0 {
			continue
		}
		c, err := e.compareReply(ctx, chat, i, replies[i])
		if ctx.Err() != nil {
			return
		}
		at := len(chat.Prompts) - 1
		e.showReplyAt(chat.ID, i, at, func(column *Column, r *Reply) {
			if !r.Started.Equal(chat.Columns[i].Replies[at].Started) { // it was generated again
				return
			}
			for k := range max(0, at-comparedReplies+1) {
				column.Replies[k].Pieces = nil
			}
			if err != nil {
				r.Uncompared = oneLine(err.Error())
			}
			if c.of > 0 {
				r.Agreement, r.Pieces = float64(c.same)/float64(c.of), c.pieces
			}
		})
	}
}

// compareBehind compares the replies of a chat that is idle, and saves the result. Jobs are paused meanwhile, as during a reply.
func (e *Exploration) compareBehind(ctx context.Context, a Actor, chat Chat, replies []replied) error {
	release := e.jobs.Interrupt(e.talks.ctx, yieldPatience)
	e.compareReplies(infer.WithQueueOwner(e.talks.ctx, a.Name), chat, replies)
	release()
	_, err := e.changeChat(context.WithoutCancel(ctx), a, chat.ID, func(_ *Snapshot, chat *Chat) error {
		chat.Comparing--
		return nil
	})
	if err != nil { // what was compared is shown all the same
		e.update(SectionChats, func(s *Snapshot) {
			if at := slices.IndexFunc(s.Chats, func(c Chat) bool { return c.ID == chat.ID }); at >= 0 {
				s.Chats = slices.Clone(s.Chats)
				s.Chats[at].Comparing--
			}
		})
	}
	return err
}

// comparison is what compareReply returns; pieces may be missing beside an error.
type comparison struct {
	same, of int // tokens
	pieces   []Piece
}

func (e *Exploration) compareReply(ctx context.Context, chat Chat, column int, said replied) (c comparison, err error) {
	now, ok := e.Snapshot().Chat(chat.ID)
	at := len(chat.Prompts) - 1
	if !ok || len(now.Columns) <= column || len(now.Columns[column].Replies) <= at {
		return c, nil // it is gone
	}
	leftOut := now.Columns[column].Replies[at].LeftOut
	g, give, err := e.talks.borrow(ctx, DenseID, chat.GPU)
	if err != nil {
		return c, err
	}
	defer give()
	prompt, err := g.Model.Prompt(ctx, chat.messages(column, leftOut))
	if err != nil {
		return c, err
	}
	window := slices.Concat(prompt.Tokens, said.tokens)
	first := []int{len(prompt.Tokens)}
	all, err := g.Model.Distributions(ctx, [][]int32{window}, infer.DistributionOptions{Top: comparedTop, From: first})
	if err != nil {
		return c, err
	}
	if len(all) != 1 || len(all[0]) != len(said.tokens) {
		return c, fmt.Errorf("%d distributions of %d tokens", len(all), len(said.tokens))
	}
	wanted := make([][]int32, len(said.tokens))
	best := make([]int32, len(said.tokens))
	for i, p := range all[0] {
		if p.Greedy {
			c.same++
		}
		wanted[i], best[i] = p.Top, said.tokens[i]
		if len(p.Top) > 0 {
			best[i] = p.Top[0]
		}
	}
	c.of = len(said.tokens)
	names, err := g.Model.Pieces(ctx, best)
	if err != nil {
		return c, err
	}
	sub, giveSub, err := e.talks.borrow(ctx, chat.Columns[column].Subnet, chat.GPU)
	if err != nil {
		return c, err
	}
	defer giveSub()
	own, err := sub.Model.Distributions(ctx, [][]int32{window}, infer.DistributionOptions{Top: 1, From: first, At: [][][]int32{wanted}})
	if err != nil {
		return c, err
	}
	if len(own) != 1 || len(own[0]) != len(said.tokens) {
		return c, fmt.Errorf("%d distributions of %d tokens", len(own), len(said.tokens))
	}
	for i, p := range own[0] {
		piece := Piece{Text: said.texts[i], Divergence: math.Round(1000*divergence(all[0][i].TopProbs, p.At)) / 1000}
		if best[i] != said.tokens[i] {
			piece.Dense = printable(names[i])
		}
		piece.Parts = len(p.Top) > 0 && p.Top[0] != best[i]
		c.pieces = append(c.pieces, piece)
	}
	return c, nil
}

// divergence is that of q from p, both natural log-probabilities of the same tokens, with all other tokens as one.
func divergence(p, q []float32) float64 {
	if len(p) != len(q) {
		return 0
	}
	sum, restP, restQ := 0.0, 1.0, 1.0
	for i := range p {
		w := math.Exp(float64(p[i]))
		sum += w * (float64(p[i]) - float64(q[i]))
		restP -= w
		restQ -= math.Exp(float64(q[i]))
	}
	const least = 1e-9 // below it the rest is rounding
	if restP > least {
		sum += restP * math.Log(restP/max(restQ, least))
	}
	return max(0, sum)
}
