package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
)

// ChatMarkdown writes a chat as Markdown, the columns of each prompt one after the other.
func ChatMarkdown(c explorer.Chat) []byte {
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
				notes = append(notes, fmt.Sprintf("%.1f tokens/s", r.TokensPerSecond))
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
