package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
)

// maxPiped is the limit of a prompt on standard input, in bytes.
const maxPiped = explorer.MaxPrompt

// chatResult is what `chat --json` writes for each prompt.
type chatResult struct {
	Model           string  `json:"model"`
	Subnet          string  `json:"subnet,omitempty"`
	Prompt          string  `json:"prompt"`
	Reply           string  `json:"reply"`
	PromptTokens    int     `json:"prompt_tokens"`
	Tokens          int     `json:"tokens"`
	FirstToken      float64 `json:"first_token_seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Deviation       float64 `json:"tokens_per_second_deviation,omitempty"` // between parts of the reply
	Context         int     `json:"context"`
	ContextUsed     int     `json:"context_used"`
	Seed            uint64  `json:"seed"`
	LeftOut         int     `json:"left_out,omitempty"`         // turns at the beginning that the context has no room for
	Placement       string  `json:"placement,omitempty"`        // what computes the layers
	GPUMemory       int64   `json:"gpu_memory_bytes,omitempty"` // of weights, cache and buffers
	Fallback        string  `json:"gpu_fallback,omitempty"`     // why fewer layers are on a GPU than was asked for
	Engine          string  `json:"engine"`                     // what runs the model
	Warning         string  `json:"warning,omitempty"`          // how the prompt differs from what the model's own chat template makes of the messages
}

func (a *app) chatCommand() *cobra.Command {
	sampling := explorer.DefaultSampling()
	var prompt, system, subnet string
	cmd := &cobra.Command{
		Use:   "chat [MODEL]",
		Short: "Chat with a model or a subnet",
		Long: "With -p it answers one prompt, with text on standard input it answers that; otherwise it reads one prompt per line, or per\n" +
			"paste, until the input ends. Where the context is full the oldest turns are left out. Replies go to standard output, everything else to standard error.",
		Example: "  lathe chat small.gguf -p 'What is a lathe?'\n  lathe chat --subnet s3\n  git diff | lathe chat --system 'Summarise the change in one sentence.'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			k := inMemory
			if subnet != string(explorer.DenseID) {
				k = readOnly // the chat itself is not stored
			}
			return a.with(cmd.Context(), model, k, func(e exploration) error {
				id, err := find(e.Snapshot(), subnet)
				if err != nil {
					return err
				}
				opened, err := e.Do(cmd.Context(), a.actor(), explorer.OpenChat{Subnets: []explorer.SubnetID{id}, System: system, Sampling: &sampling})
				if err != nil {
					return err
				}
				err = a.converse(cmd.Context(), e, opened.Chat, prompt)
				// A server's exploration outlives the command and must not fill up with its chats.
				_, deleted := e.Do(context.WithoutCancel(cmd.Context()), a.actor(), explorer.DeleteChat{Chat: opened.Chat})
				return errors.Join(err, deleted)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&prompt, "prompt", "p", "", "answer this prompt and exit")
	flags.StringVar(&system, "system", "", "system prompt")
	flags.StringVar(&subnet, "subnet", string(explorer.DenseID), "subnet of the workspace to chat with: an id, a name, or draft")
	samplingFlags(cmd, &sampling)
	return cmd
}

// samplingFlags adds the flags of the sampler.
func samplingFlags(cmd *cobra.Command, s *infer.Sampling) {
	flags := cmd.Flags()
	flags.Float64Var(&s.Temperature, "temperature", s.Temperature, "sampling temperature; 0 always takes the most likely token")
	flags.IntVar(&s.TopK, "top-k", s.TopK, "sample from this many of the most likely tokens; 0 for all")
	flags.Float64Var(&s.TopP, "top-p", s.TopP, "sample from the most likely tokens up to this total probability; 0 or 1 for all")
	flags.Float64Var(&s.MinP, "min-p", s.MinP, "sample from tokens of at least this probability relative to the most likely one; 0 for all")
	flags.Float64Var(&s.RepeatPenalty, "repeat-penalty", s.RepeatPenalty, "penalty for repeated tokens; 0 or 1 for none")
	flags.Uint64Var(&s.Seed, "seed", s.Seed, "seed of the sampler; the same seed gives the same reply")
	flags.IntVar(&s.MaxTokens, "max-tokens", s.MaxTokens, "limit of a reply, in tokens; 0 for none")
}

// converse answers one prompt, or what standard input contains.
func (a *app) converse(ctx context.Context, e exploration, chat explorer.ChatID, prompt string) error {
	if prompt != "" {
		return a.answer(ctx, e, chat, prompt)
	}
	if !isTerminal(a.stdin) {
		piped, err := io.ReadAll(io.LimitReader(a.stdin, maxPiped+1))
		if err != nil {
			return err
		}
		if len(piped) > maxPiped {
			return usage(fmt.Errorf("the prompt on standard input is longer than %d bytes", maxPiped))
		}
		text := strings.TrimSuffix(string(piped), "\n") // that ends the last line
		return a.answer(ctx, e, chat, strings.TrimSuffix(text, "\r"))
	}
	in := a.openPrompts()
	defer in.close()
	for {
		fmt.Fprint(a.stderr, "> ")
		line, err := in.next(ctx)
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(a.stderr)
			return nil
		}
		if err == nil {
			if strings.TrimSpace(line) == "" {
				continue
			}
			err = a.answer(ctx, e, chat, line)
		}
		switch {
		case err == nil:
		case isOfPrompt(err):
			fmt.Fprintf(a.stderr, "lathe: %s\n", firstLine(err))
		default:
			return err
		}
	}
}

// isOfPrompt reports whether an error concerns one prompt, so that the conversation can continue with another.
func isOfPrompt(err error) bool {
	for _, target := range []error{infer.ErrContextFull, infer.ErrTemplate, infer.ErrInvalid, explorer.ErrInvalid, errUsage} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// answer sends one prompt and writes the reply while it is generated.
func (a *app) answer(ctx context.Context, e exploration, chat explorer.ChatID, prompt string) error {
	if _, err := e.Do(ctx, a.actor(), explorer.Say{Chat: chat, Text: prompt}); err != nil {
		return err
	}
	written := 0
	var cancelled error
	for {
		s := e.Snapshot()
		c, ok := s.Chat(chat)
		if !ok {
			return fmt.Errorf("chat %s: %w", chat, explorer.ErrNotFound)
		}
		column := c.Columns[0]
		reply := column.Replies[len(column.Replies)-1]
		if !a.json && len(reply.Text) > written {
			fmt.Fprint(a.stdout, reply.Text[written:])
			written = len(reply.Text)
		}
		if !c.Busy {
			if !a.json && (written > 0 || reply.Cause == nil) {
				fmt.Fprintln(a.stdout)
			}
			return errors.Join(cancelled, a.replied(s, c, column, reply))
		}
		if err := e.Wait(ctx, s.Revision); err != nil {
			cancelled = err
			ctx = context.WithoutCancel(ctx)
			if _, err := e.Do(ctx, a.actor(), explorer.StopReply{Chat: chat}); err != nil && !errors.Is(err, explorer.ErrNotFound) {
				return err
			}
		}
	}
}

// replied writes the statistics of a finished reply.
func (a *app) replied(s *explorer.Snapshot, c explorer.Chat, column explorer.Column, reply explorer.Reply) error {
	if reply.Cause != nil {
		return reply.Cause
	}
	r := chatResult{
		Model: s.Model.Path, Prompt: c.Prompts[len(c.Prompts)-1].Text, Reply: reply.Text, PromptTokens: reply.PromptTokens, Tokens: reply.Tokens,
		FirstToken: reply.FirstToken.Seconds(), TokensPerSecond: reply.TokensPerSecond, Deviation: reply.Deviation, Context: column.Context, ContextUsed: column.Used, Seed: c.Sampling.Seed,
		Warning: reply.Warning, LeftOut: reply.LeftOut, Placement: column.Placement, GPUMemory: column.GPUMemory, Fallback: column.Fallback,
		Engine: s.Model.Engine,
	}
	if r.LeftOut > 0 {
		fmt.Fprintf(a.stderr, "lathe: the context of %d tokens is full: the prompt is without the conversation's first %s\n", r.Context, format.Counted(r.LeftOut, "turn"))
	}
	a.warnFallback(infer.Info{Fallback: r.Fallback})
	if r.Warning != "" {
		fmt.Fprintf(a.stderr, "lathe: warning: %s\n", r.Warning)
	}
	if column.Subnet != explorer.DenseID {
		r.Subnet = string(column.Subnet)
	}
	if !a.json {
		gpu := ""
		if r.GPUMemory > 0 {
			gpu = fmt.Sprintf(", %s, %s", r.Placement, format.Bytes(r.GPUMemory))
		}
		speed := fmt.Sprintf("%.1f", r.TokensPerSecond)
		if r.Deviation > 0 {
			speed += fmt.Sprintf(" ± %.1f", r.Deviation)
		}
		fmt.Fprintf(a.stderr, "[%d tokens, first after %.2f s, then %s tokens/s, %d of %d context%s]\n",
			r.Tokens, r.FirstToken, speed, r.ContextUsed, r.Context, gpu)
		return nil
	}
	return a.result(r, nil)
}
