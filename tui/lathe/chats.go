package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/durable"
)

// keptChat is a chat in the --json output of `chats`.
type keptChat struct {
	ID      string       `json:"id"`
	Name    string       `json:"name"`
	Author  string       `json:"author,omitempty"`
	Created time.Time    `json:"created"`
	System  string       `json:"system,omitempty"`
	Seed    uint64       `json:"seed"`
	Blind   bool         `json:"blind"` // columns are called A, B, …, their subnets are not named, and each prompt has an order of its own
	Voted   int          `json:"voted"` // prompts with a vote
	Columns []chatColumn `json:"columns"`
	Prompts []string     `json:"prompts"`
}

// chatColumn is one subnet's side of a chat.
type chatColumn struct {
	Subnet string `json:"subnet,omitempty"`
	Label  string `json:"label"`
	Votes  int    `json:"votes"` // 0 while the chat is blind
	// Share is the interval that the column's share of all votes is in with 95 % confidence; absent without votes.
	Share   []float64   `json:"share_95,omitempty"`
	Replies []chatReply `json:"replies"` // one per prompt
	Error   string      `json:"error,omitempty"`
}

// chatReply is the answer of a column.
type chatReply struct {
	Text      string   `json:"text"`
	Tokens    int      `json:"tokens"`
	Stopped   bool     `json:"stopped,omitempty"`   // by a person, before it was complete
	Agreement *float64 `json:"agreement,omitempty"` // share of the tokens that the dense model would have chosen too
	Error     string   `json:"error,omitempty"`
	// Pieces are the tokens compared with the dense model, and Parting is the first at which the two find different tokens most likely.
	Pieces     []chatPiece `json:"pieces,omitempty"`
	Parting    *int        `json:"parting,omitempty"`
	Uncompared string      `json:"uncompared,omitempty"` // why they are not
}

// chatPiece is a token of a reply.
type chatPiece struct {
	Text       string  `json:"text"`
	Divergence float64 `json:"divergence"`      // from the dense model, nats
	Dense      string  `json:"dense,omitempty"` // the dense model's most likely token, where it is another
}

func newKeptChat(c explorer.Chat) keptChat {
	r := keptChat{ID: string(c.ID), Name: c.Name, Author: c.Author, Created: c.Created, System: c.System, Seed: c.Sampling.Seed, Blind: c.Blind, Columns: []chatColumn{}, Prompts: []string{}}
	for _, p := range c.Prompts {
		r.Prompts = append(r.Prompts, p.Text)
	}
	for _, v := range c.Votes {
		r.Voted += v
	}
	c = report.Blinded(c)
	for i, column := range c.Columns {
		out := chatColumn{Subnet: string(column.Subnet), Label: column.Label, Replies: []chatReply{}, Error: column.Err}
		if c.Blind {
			out.Subnet = ""
		}
		if i < len(c.Votes) {
			out.Votes = c.Votes[i]
		}
		if all := r.Voted; all > 0 && !c.Blind {
			low, high := report.VoteInterval(out.Votes, all)
			out.Share = []float64{low, high}
		}
		for _, reply := range column.Replies {
			said := chatReply{Text: reply.Text, Tokens: reply.Tokens, Stopped: reply.Stopped, Error: reply.Err}
			if reply.Agreement >= 0 && column.Subnet != explorer.DenseID && !c.Blind {
				said.Agreement, said.Uncompared = &reply.Agreement, reply.Uncompared
				for _, p := range reply.Pieces {
					said.Pieces = append(said.Pieces, chatPiece{p.Text, p.Divergence, p.Dense})
				}
				if at := reply.Parting(); at >= 0 {
					said.Parting = &at
				}
			}
			out.Replies = append(out.Replies, said)
		}
		r.Columns = append(r.Columns, out)
	}
	return r
}

func (r keptChat) labels() string {
	labels := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		labels[i] = c.Label
		if len(c.Share) == 2 {
			labels[i] += fmt.Sprintf(" (%d %s, %.0f to %.0f %%)", c.Votes, map[bool]string{true: "vote", false: "votes"}[c.Votes == 1], 100*c.Share[0], 100*c.Share[1])
		}
	}
	out := strings.Join(labels, ", ")
	if r.Blind && r.Voted > 0 {
		out += fmt.Sprintf(" (%d %s)", r.Voted, map[bool]string{true: "vote", false: "votes"}[r.Voted == 1])
	}
	return out
}

// words writes the last prompt's replies.
func (r keptChat) words(w io.Writer) {
	fmt.Fprintf(w, "%s: %s: %s\n", r.ID, r.Name, r.labels())
	for _, c := range r.Columns {
		if n := len(c.Replies); n > 0 {
			fmt.Fprintf(w, "\n[%s]\n%s\n", c.Label, strings.TrimSpace(c.Replies[n-1].Text))
		}
	}
}

func (a *app) chatsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "chats", Short: "Keep chats in a workspace: side by side, blind, with votes", Args: subcommandArgs, RunE: needsSubcommand,
		Long:    "The chats of the explorer. CHAT is an id, as `chats list` shows it, or a name.",
		Example: "  lathe chats new --subnets dense,s3 --blind\n  lathe chats say c1 'What is a lathe?'\n  lathe chats vote c1 left\n  lathe chats set c1 --blind=false\n  lathe chats export c1 -o chat.md",
	}
	cmd.AddCommand(a.chatsListCommand(), a.chatsNewCommand(), a.chatsSetCommand(), a.chatsExportCommand(),
		a.onChat("show CHAT", "Show a chat", 0, readOnly, nil),
		a.onChat("say CHAT PROMPT", "Send a prompt to all columns and wait for the replies", 1, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, args []string) (explorer.Command, error) {
			return explorer.Say{Chat: c.ID, Text: args[0]}, nil
		}),
		a.onChat("again CHAT", "Generate the last replies again with the next seed", 0, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, _ []string) (explorer.Command, error) {
			return explorer.Regenerate{Chat: c.ID}, nil
		}),
		a.onChat("edit CHAT PROMPT", "Replace the last prompt and ask again", 1, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, args []string) (explorer.Command, error) {
			return explorer.EditPrompt{Chat: c.ID, Text: args[0]}, nil
		}),
		a.onChat("stop CHAT", "Stop the replies that are generated", 0, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, _ []string) (explorer.Command, error) {
			return explorer.StopReply{Chat: c.ID}, nil
		}),
		a.onChat("columns CHAT SUBNETS", "Set the columns: subnets separated by commas", 1, inWorkspace, func(s *explorer.Snapshot, c explorer.Chat, args []string) (explorer.Command, error) {
			ids, err := findAll(s, strings.Split(args[0], ","))
			return explorer.SetColumns{Chat: c.ID, Subnets: ids}, err
		}),
		a.onChat("vote CHAT COLUMN", "Vote for a column: left, right, or its number from 1", 1, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, args []string) (explorer.Command, error) {
			n, err := columnOf(c, args[0])
			if err == nil {
				n = c.Order(len(c.Prompts) - 1)[n]
			}
			return explorer.Vote{Chat: c.ID, Column: n}, err
		}),
		a.onChat("rename CHAT NAME", "Rename a chat", 1, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, args []string) (explorer.Command, error) {
			return explorer.ConfigureChat{Chat: c.ID, Name: &args[0]}, nil
		}),
		a.onChat("delete CHAT", "Delete a chat", 0, inWorkspace, func(_ *explorer.Snapshot, c explorer.Chat, _ []string) (explorer.Command, error) {
			return explorer.DeleteChat{Chat: c.ID}, nil
		}),
	)
	return cmd
}

// columnOf returns the position of a column.
func columnOf(c explorer.Chat, text string) (int, error) {
	switch text {
	case "left":
		return 0, nil
	case "right":
		return len(c.Columns) - 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > len(c.Columns) {
		return 0, usage(fmt.Errorf("column %q: not left, right or a number from 1 to %d", text, len(c.Columns)))
	}
	return n - 1, nil
}

// findAll returns the subnets with ids or names.
func findAll(s *explorer.Snapshot, names []string) ([]explorer.SubnetID, error) {
	var ids []explorer.SubnetID
	for _, name := range names {
		id, err := find(s, strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// findChat returns the chat with an id or a name.
func findChat(s *explorer.Snapshot, what string) (explorer.Chat, error) {
	names := []string{}
	var found []explorer.Chat
	for _, c := range s.Chats {
		if string(c.ID) == what {
			return c, nil
		}
		if c.Name == what {
			found = append(found, c)
		}
		names = append(names, string(c.ID), c.Name)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return explorer.Chat{}, usage(fmt.Errorf("%d chats are named %q: use an id, such as %s", len(found), what, found[0].ID))
	case len(names) == 0:
		return explorer.Chat{}, fmt.Errorf("chat %q: %w: the workspace has no chats", what, explorer.ErrNotFound)
	}
	return explorer.Chat{}, fmt.Errorf("chat %q: %w%s (`lathe chats list` shows them)", what, explorer.ErrNotFound, orNearest(what, names))
}

// onChat returns a command that runs a command of the explorer on a chat, with more arguments, and shows the chat when its
// replies are complete.
func (a *app) onChat(use, short string, more int, k storage, command func(*explorer.Snapshot, explorer.Chat, []string) (explorer.Command, error)) *cobra.Command {
	return &cobra.Command{
		Use: use + " [MODEL]", Short: short, Args: cobra.RangeArgs(1+more, 2+more),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1+more:])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, k, func(e exploration) error {
				c, err := findChat(e.Snapshot(), args[0])
				if err != nil {
					return err
				}
				if command == nil {
					return a.showChat(c)
				}
				do, err := command(e.Snapshot(), c, args[1:1+more])
				if err != nil {
					return err
				}
				return a.onColumns(cmd.Context(), e, c, do)
			})
		},
	}
}

// onColumns runs a command on a chat, waits for the replies and shows them.
func (a *app) onColumns(ctx context.Context, e exploration, c explorer.Chat, do explorer.Command) error {
	if _, err := e.Do(ctx, a.actor(), do); err != nil {
		return err
	}
	for {
		s := e.Snapshot()
		now, ok := s.Chat(c.ID)
		switch _, deleted := do.(explorer.DeleteChat); {
		case deleted:
			return a.result(newKeptChat(c), func(w io.Writer) { fmt.Fprintf(w, "%s: %s: deleted\n", c.ID, c.Name) })
		case !ok:
			return fmt.Errorf("chat %s: %w", c.ID, explorer.ErrNotFound)
		case !now.Busy && now.Comparing == 0:
			r := newKeptChat(now)
			return errors.Join(a.result(r, r.words), failedReplies(now))
		}
		if err := e.Wait(ctx, s.Revision); err != nil {
			_, stop := e.Do(context.WithoutCancel(ctx), a.actor(), explorer.StopReply{Chat: c.ID})
			if errors.Is(stop, explorer.ErrNotFound) {
				stop = nil
			}
			return errors.Join(err, stop)
		}
	}
}

// failedReplies returns the errors of the last replies.
func failedReplies(c explorer.Chat) error {
	var err error
	for _, column := range c.Columns {
		if n := len(column.Replies); n > 0 && column.Replies[n-1].Cause != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", column.Label, column.Replies[n-1].Cause))
		}
	}
	return err
}

func (a *app) showChat(c explorer.Chat) error {
	return a.result(newKeptChat(c), func(w io.Writer) {
		_, _ = w.Write(report.ChatMarkdown(c)) // the writer of standard output keeps its error
	})
}

func (a *app) chatsListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [MODEL]", Short: "List the chats of a workspace, newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				r := struct {
					Chats []keptChat `json:"chats"`
				}{[]keptChat{}}
				rows := [][]string{{"id", "name", "columns", "prompts", "created"}}
				for _, c := range e.Snapshot().Chats {
					k := newKeptChat(c)
					r.Chats = append(r.Chats, k)
					rows = append(rows, []string{k.ID, k.Name, k.labels(), strconv.Itoa(len(k.Prompts)), k.Created.Local().Format("2006-01-02 15:04")})
				}
				return a.result(r, func(w io.Writer) { table(w, rows...) })
			})
		},
	}
}

func (a *app) chatsNewCommand() *cobra.Command {
	c := explorer.OpenChat{}
	sampling := explorer.DefaultSampling()
	var names []string
	cmd := &cobra.Command{
		Use: "new [MODEL]", Short: "Open a chat with subnets side by side", Args: cobra.MaximumNArgs(1),
		Long: "With --blind the columns are called A, B, …, in an order drawn for each prompt, until `chats set --blind=false` reveals them.",
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				if c.Subnets, err = findAll(e.Snapshot(), names); err != nil {
					return err
				}
				if c.Blind {
					rand.Shuffle(len(c.Subnets), func(i, j int) { c.Subnets[i], c.Subnets[j] = c.Subnets[j], c.Subnets[i] })
				}
				c.Sampling = &sampling
				receipt, err := e.Do(cmd.Context(), a.actor(), c)
				if err != nil {
					return err
				}
				made, _ := e.Snapshot().Chat(receipt.Chat)
				r := newKeptChat(made)
				return a.result(r, r.words)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&names, "subnets", []string{string(explorer.DenseID)}, "columns: ids or names in the workspace, dense, draft")
	flags.StringVar(&c.Name, "name", "", "name of the chat")
	flags.StringVar(&c.System, "system", "", "system prompt")
	flags.BoolVar(&c.Blind, "blind", false, "hide which column is which")
	samplingFlags(cmd, &sampling)
	return cmd
}

func (a *app) chatsSetCommand() *cobra.Command {
	var (
		system string
		blind  bool
	)
	sampling := explorer.DefaultSampling()
	cmd := &cobra.Command{
		Use: "set CHAT [MODEL]", Short: "Change the system prompt, the sampling, --gpu, or whether a chat is blind", Args: cobra.RangeArgs(1, 2),
	}
	flags := cmd.Flags()
	flags.StringVar(&system, "system", "", "system prompt")
	flags.BoolVar(&blind, "blind", false, "hide which column is which")
	samplingFlags(cmd, &sampling)
	if a.shared != nil { // elsewhere it is a flag of every command
		gpuFlag(flags, &a.gpu)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		model, err := a.modelArg(args[1:])
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
			chat, err := findChat(e.Snapshot(), args[0])
			if err != nil {
				return err
			}
			c := explorer.ConfigureChat{Chat: chat.ID}
			if cmd.Flags().Changed("gpu") {
				c.GPU = &a.gpu
			}
			if flags.Changed("system") {
				c.System = &system
			}
			if flags.Changed("blind") {
				c.Blind = &blind
			}
			if merged, changed := mergedSampling(cmd, chat.Sampling, sampling); changed {
				c.Sampling = &merged
			}
			return a.onColumns(cmd.Context(), e, chat, c)
		})
	}
	return cmd
}

// mergedSampling returns the sampling of a chat with the values of the flags that are given.
func mergedSampling(cmd *cobra.Command, now, given infer.Sampling) (infer.Sampling, bool) {
	flags, changed := cmd.Flags(), false
	for name, set := range map[string]func(){
		"temperature": func() { now.Temperature = given.Temperature }, "top-k": func() { now.TopK = given.TopK }, "top-p": func() { now.TopP = given.TopP },
		"min-p": func() { now.MinP = given.MinP }, "repeat-penalty": func() { now.RepeatPenalty = given.RepeatPenalty },
		"seed": func() { now.Seed = given.Seed }, "max-tokens": func() { now.MaxTokens = given.MaxTokens },
	} {
		if flags.Changed(name) {
			changed = true
			set()
		}
	}
	return now, changed
}

func (a *app) chatsExportCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use: "export CHAT [MODEL]", Short: "Write a chat as Markdown", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				c, err := findChat(e.Snapshot(), args[0])
				if err != nil {
					return err
				}
				return a.writeText(to, report.ChatMarkdown(c))
			})
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", toStdout, "file to write, which must not exist; - for standard output")
	return cmd
}

// writeText writes a text to a new file, or to standard output.
func (a *app) writeText(to string, text []byte) error {
	if to == toStdout {
		_, err := a.stdout.Write(text)
		return err
	}
	err := durable.WriteNew(to, text, 0o644)
	if errors.Is(err, os.ErrExist) {
		return usage(fmt.Errorf("-o %s: file exists", to))
	}
	if err != nil {
		return output{fmt.Errorf("-o: %w", err)}
	}
	r := struct {
		Path  string `json:"path"`
		Bytes int    `json:"bytes"`
	}{to, len(text)}
	return a.result(r, func(w io.Writer) { fmt.Fprintf(w, "%s: %d bytes\n", r.Path, r.Bytes) })
}
