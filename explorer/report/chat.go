package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
)

// Blinded returns a blind chat with the replies in the order of their prompt, and without what identifies them: names, votes and speeds.
func Blinded(c explorer.Chat) explorer.Chat {
	if !c.Blind {
		return c
	}
	own := c.Columns
	c.Columns, c.Votes, c.Ballots = make([]explorer.Column, len(own)), nil, nil
	for k := range c.Columns {
		out := explorer.Column{Label: string(rune('A' + k%26)), Err: own[c.Order(len(c.Prompts) - 1)[k]].Err}
		for i := range c.Prompts {
			if replies := own[c.Order(i)[k]].Replies; i < len(replies) {
				r := replies[i]
				r.TokensPerSecond, r.Deviation, r.FirstToken, r.Agreement, r.Pieces, r.Uncompared = 0, 0, 0, -1, nil, ""
				out.Replies = append(out.Replies, r)
			}
		}
		c.Columns[k] = out
	}
	return c
}

// ChatMarkdown writes a chat as Markdown, the columns of each prompt one after the other; a blind one as [Blinded].
func ChatMarkdown(c explorer.Chat) []byte {
	c = Blinded(c)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n", c.Name)
	s := c.Sampling
	fmt.Fprintf(&b, "%s, temperature %g, top-k %d, top-p %g, min-p %g, repeat penalty %g, seed %d\n", c.Created.Format("2006-01-02 15:04"),
		s.Temperature, s.TopK, s.TopP, s.MinP, s.RepeatPenalty, s.Seed)
	if c.System != "" {
		fmt.Fprintf(&b, "\nSystem prompt:\n\n%s\n", quoted(c.System))
	}
	for i, p := range c.Prompts {
		fmt.Fprintf(&b, "\n## Prompt\n\n%s\n", quoted(p.Text))
		if p.Look != "" {
			fmt.Fprintf(&b, "\nA good reply has: %s\n", p.Look)
		}
		for _, column := range c.Columns {
			r := column.Replies[i]
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", column.Label, strings.TrimSpace(r.Text))
			notes := []string{fmt.Sprintf("%d tokens", r.Tokens)}
			if r.TokensPerSecond > 0 {
				speed := fmt.Sprintf("%.1f", r.TokensPerSecond)
				if r.Deviation > 0 {
					speed += fmt.Sprintf(" ± %.1f", r.Deviation)
				}
				notes = append(notes, speed+" tokens/s")
			}
			if r.Agreement >= 0 && column.Subnet != explorer.DenseID {
				notes = append(notes, fmt.Sprintf("%.0f %% as the dense model would have written", 100*r.Agreement))
			}
			if r.Stopped {
				notes = append(notes, "stopped")
			}
			if r.Err != "" {
				notes = append(notes, "failed: "+r.Err)
			}
			fmt.Fprintf(&b, "\n*%s*\n", strings.Join(notes, ", "))
		}
	}
	return b.Bytes()
}

// quoted returns text as a Markdown quotation.
func quoted(text string) string {
	return "> " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n> ")
}
