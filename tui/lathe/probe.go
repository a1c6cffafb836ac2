package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

// probeResult is what `probe --json` writes.
type probeResult struct {
	Model       string         `json:"model"`
	Seed        uint64         `json:"seed"`
	Temperature float64        `json:"temperature"`
	MaxTokens   int            `json:"max_tokens"`
	Prompts     []probePrompt  `json:"prompts"`
	Subnets     []probeSummary `json:"subnets"`
	Seconds     float64        `json:"seconds"`
}

// probePrompt is one prompt with the reply of each subnet.
type probePrompt struct {
	Name    string       `json:"name,omitempty"`
	Prompt  string       `json:"prompt"`
	Look    string       `json:"good_reply,omitempty"` // what a good reply has
	Replies []probeReply `json:"replies"`
}

type probeReply struct {
	Subnet    explorer.SubnetID `json:"subnet"`
	Reply     string            `json:"reply"`
	Tokens    int               `json:"tokens"`
	Ended     bool              `json:"ended"`   // by itself, before the limit of tokens
	Repeats   float64           `json:"repeats"` // share of its runs of four words that it had before
	Agreement *float64          `json:"agreement,omitempty"`
}

// probeSummary is a subnet over all prompts.
type probeSummary struct {
	Subnet    explorer.SubnetID `json:"subnet"`
	Name      string            `json:"name"`
	Ended     int               `json:"ended"`
	Circles   int               `json:"in_circles"` // replies of which more than half repeats
	Agreement *float64          `json:"agreement,omitempty"`
}

// inCircles is the share of repeats above which a reply counts as repeating itself.
const inCircles = 0.5

func (a *app) probeCommand() *cobra.Command {
	var (
		c       explorer.Probe
		subnets []string
	)
	sampling := explorer.ProbeSampling()
	cmd := &cobra.Command{
		Use:   "probe [MODEL]",
		Short: "Ask a few prompts of the dense model and subnets, side by side",
		Long: "A quick check of quality. Each of the built-in prompts, or of those of --prompt, is a conversation of its own, with the same seed\n" +
			"and by default without randomness. Below each reply are the share of its tokens that the dense model would have chosen too, whether\n" +
			"it ended by itself, and whether it repeats itself. Without --subnets the dense model and the newest subnet of the workspace are\n" +
			"asked. The conversations are not kept; the action Probe of the Chat screen keeps them.",
		Example: "  lathe probe model.gguf\n  lathe probe --subnets s3,s5 --max-tokens 40\n  lathe probe --subnets s3 --prompt 'What is a lathe?' --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			c.Sampling = &sampling
			k := readOnly
			if slices.Equal(subnets, []string{string(explorer.DenseID)}) {
				k = inMemory
			}
			return a.with(cmd.Context(), model, k, func(e exploration) error {
				s := e.Snapshot()
				c.Subnets = []explorer.SubnetID{explorer.DenseID}
				if len(subnets) == 0 && len(s.Subnets) > 0 {
					c.Subnets = append(c.Subnets, s.Subnets[0].ID)
				}
				for _, name := range subnets {
					id, err := find(s, name)
					if err != nil {
						return err
					}
					if !slices.Contains(c.Subnets, id) {
						c.Subnets = append(c.Subnets, id)
					}
				}
				opened, err := e.Do(cmd.Context(), a.actor(), c)
				if err != nil {
					return err
				}
				err = a.probe(cmd.Context(), e, opened.Chat)
				// A server's exploration outlives the command and must not fill up with its chats.
				_, deleted := e.Do(context.WithoutCancel(cmd.Context()), a.actor(), explorer.DeleteChat{Chat: opened.Chat})
				return errors.Join(err, deleted)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&subnets, "subnets", nil, "subnets beside the dense model, at most three: ids or names in the workspace, draft (default: the newest)")
	flags.StringArrayVarP(&c.Prompts, "prompt", "p", nil, "prompt to ask instead of the built-in ones; may be repeated")
	samplingFlags(cmd, &sampling)
	return cmd
}

// probe writes the replies to each prompt as they are finished, and the summary.
func (a *app) probe(ctx context.Context, e exploration, id explorer.ChatID) error {
	began := time.Now()
	written := 0
	var cancelled error
	for {
		s := e.Snapshot()
		c, ok := s.Chat(id)
		if !ok {
			return fmt.Errorf("chat %s: %w", id, explorer.ErrNotFound)
		}
		for i := range c.Prompts {
			for _, column := range c.Columns {
				if r := column.Replies[i]; r.Cause != nil {
					return fmt.Errorf("%s: %w", column.Label, r.Cause)
				}
			}
		}
		ready := len(c.Prompts) // those that are answered
		if c.Busy {
			ready--
		}
		for ; written < ready && !a.json; written++ {
			probeWords(a.stdout, c, written)
		}
		if !c.Busy && c.Comparing == 0 {
			r := newProbe(s.Model.Path, c)
			r.Seconds = time.Since(began).Seconds()
			return errors.Join(cancelled, a.result(r, r.words))
		}
		if err := e.Wait(ctx, s.Revision); err != nil {
			cancelled = err
			ctx = context.WithoutCancel(ctx)
			if _, err := e.Do(ctx, a.actor(), explorer.StopReply{Chat: id}); err != nil && !errors.Is(err, explorer.ErrNotFound) {
				return err
			}
		}
	}
}

// newProbe returns the result of a probe.
func newProbe(model string, c explorer.Chat) probeResult {
	r := probeResult{Model: model, Seed: c.Sampling.Seed, Temperature: c.Sampling.Temperature, MaxTokens: c.Sampling.MaxTokens, Prompts: []probePrompt{}}
	for _, column := range c.Columns {
		r.Subnets = append(r.Subnets, probeSummary{Subnet: column.Subnet, Name: column.Label})
	}
	agreed, tokens := make([]float64, len(c.Columns)), make([]float64, len(c.Columns))
	for i, p := range c.Prompts {
		row := probePrompt{Name: p.Name, Prompt: p.Text, Look: p.Look}
		for k := range c.Columns {
			reply := newProbeReply(c, k, i)
			sum := &r.Subnets[k]
			if reply.Ended {
				sum.Ended++
			}
			if reply.Repeats > inCircles {
				sum.Circles++
			}
			if reply.Agreement != nil {
				agreed[k] += *reply.Agreement * float64(reply.Tokens)
				tokens[k] += float64(reply.Tokens)
			}
			row.Replies = append(row.Replies, reply)
		}
		r.Prompts = append(r.Prompts, row)
	}
	for k := range r.Subnets {
		if tokens[k] > 0 {
			share := agreed[k] / tokens[k]
			r.Subnets[k].Agreement = &share
		}
	}
	return r
}

func newProbeReply(c explorer.Chat, column, prompt int) probeReply {
	r := c.Columns[column].Replies[prompt]
	out := probeReply{
		Subnet: c.Columns[column].Subnet, Reply: r.Text, Tokens: r.Tokens, Repeats: quality.Repeats(r.Text),
		Ended: !r.Stopped && (c.Sampling.MaxTokens == 0 || r.Tokens < c.Sampling.MaxTokens),
	}
	if r.Agreement >= 0 {
		out.Agreement = &r.Agreement
	}
	return out
}

// probeWords writes a prompt with its replies side by side.
func probeWords(w io.Writer, c explorer.Chat, prompt int) {
	const width, gap = 80, 3
	p := c.Prompts[prompt]
	for i, line := range text.Wrap(text.Block(p.Text), width-2) {
		fmt.Fprintln(w, []string{"> ", "  "}[min(i, 1)]+line)
	}
	if p.Look != "" {
		fmt.Fprintf(w, "  good: %s\n", p.Look)
	}
	n := len(c.Columns)
	room := (width - gap*(n-1)) / n
	columns := make([][]string, n)
	rows := 0
	for k, column := range c.Columns {
		r := newProbeReply(c, k, prompt)
		columns[k] = append(columns[k], "["+text.Clip(text.Line(cmp.Or(column.Label, string(column.Subnet))), room-2)+"]")
		columns[k] = append(columns[k], text.Wrap(text.Block(strings.TrimSpace(r.Reply)), room)...)
		columns[k] = append(columns[k], text.Wrap("("+r.facts()+")", room)...)
		rows = max(rows, len(columns[k]))
	}
	for i := range rows {
		var b strings.Builder
		for k, cell := range columns {
			line := ""
			if i < len(cell) {
				line = cell[i]
			}
			b.WriteString(line)
			if k < n-1 {
				b.WriteString(strings.Repeat(" ", max(0, room-text.Width(line))) + " | ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintln(w)
}

// facts describes a reply in words.
func (r probeReply) facts() string {
	parts := []string{fmt.Sprintf("%d tokens", r.Tokens)}
	if r.Agreement != nil {
		parts = append(parts, fmt.Sprintf("agreement %.0f %%", 100**r.Agreement))
	}
	if !r.Ended {
		parts = append(parts, "no end")
	}
	if r.Repeats > inCircles {
		parts = append(parts, "repeats itself")
	}
	return strings.Join(parts, ", ")
}

func (r probeResult) words(w io.Writer) {
	rows := [][]string{{"subnet", "agreement with dense", "replies that ended", "that repeat themselves"}}
	for _, s := range r.Subnets {
		agreement := ""
		if s.Agreement != nil {
			agreement = fmt.Sprintf("%.0f %%", 100**s.Agreement)
		}
		rows = append(rows, []string{s.Name, agreement, fmt.Sprintf("%d of %d", s.Ended, len(r.Prompts)), fmt.Sprintf("%d of %d", s.Circles, len(r.Prompts))})
	}
	table(w, rows...)
}
