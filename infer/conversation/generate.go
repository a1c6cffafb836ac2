package conversation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Options configure Generate.
type Options struct {
	Tokens int           // to generate; answers are whole, so that there are a few more
	Limit  time.Duration // after which no further answer is begun; 0 for none
	Seed   uint64
	Now    func() time.Time // the clock of Limit, time.Now if nil
	// Progress, unless nil, receives the tokens generated so far.
	Progress func(done, total int)
	// Gate, unless nil, is called between answers and may block; its error ends the work.
	Gate func(context.Context) error
}

const (
	// maxAnswer bounds an answer, in tokens. The context holds it and the longest prompt.
	maxAnswer = 320
	// Context is the context that a model needs, in tokens.
	Context = 1024
	// minAnswer is how many tokens an answer needs to be kept.
	minAnswer = 16
	// grams is the length of the sequences of tokens that must differ, minDistinct the share of them that must.
	grams, minDistinct = 4, 0.7
	// maxRounds bounds how often the list of prompts is gone through, and maxRejected how many answers may be dropped in a row.
	maxRounds, maxRejected = 4, 24
)

// ErrUnusable is returned when the model's answers are too short or repeat themselves.
var ErrUnusable = errors.New("the model's answers are too short or repeat themselves")

// Sampling returns how answers are sampled: close to the model's own distribution, without its unlikely tail.
func sampling(seed uint64) infer.Sampling {
	return infer.Sampling{Temperature: 0.8, TopP: 0.95, MaxTokens: maxAnswer, Seed: seed}
}

// Generate lets a model write conversations. It returns those that were kept, in the form in which the model reads them, special
// tokens spelled out.
func Generate(ctx context.Context, m infer.Model, o Options) ([]string, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	w := writer{model: m, chat: m.Info().ChatTemplate != ""}
	list := openings[:]
	if w.chat {
		list = prompts[:]
	}
	random := rand.New(rand.NewPCG(o.Seed, 0xC4A7))
	began, done, rejected, shown := o.Now(), 0, 0, 0
	var kept []string
	for range maxRounds {
		for _, i := range random.Perm(len(list)) {
			if done >= o.Tokens || o.Limit > 0 && o.Now().Sub(began) >= o.Limit {
				return finished(kept)
			}
			if o.Gate != nil {
				if err := o.Gate(ctx); err != nil {
					return nil, err
				}
			}
			text, tokens, err := w.write(ctx, list[i], random.Uint64(), func(n int) {
				if shown = max(shown, done+n); o.Progress != nil { // answers that are dropped take nothing back
					o.Progress(min(shown, o.Tokens), o.Tokens)
				}
			})
			if err != nil {
				return nil, err
			}
			if len(tokens) < minAnswer || repeats(tokens) {
				if rejected++; rejected >= maxRejected {
					return finished(kept)
				}
				continue
			}
			kept, done, rejected = append(kept, text), done+len(tokens), 0
		}
	}
	return finished(kept)
}

func finished(kept []string) ([]string, error) {
	if len(kept) == 0 {
		return nil, ErrUnusable
	}
	return kept, nil
}

// writer writes single conversations.
type writer struct {
	model infer.Model
	chat  bool
}

// write returns a conversation and the tokens of the model's part of it.
func (w writer) write(ctx context.Context, prompt string, seed uint64, progress func(int)) (string, []int32, error) {
	start, err := w.begin(ctx, prompt)
	if err != nil {
		return "", nil, fmt.Errorf("the prompt %q: %w", prompt, err)
	}
	var tokens []int32
	_, err = w.model.Generate(ctx, start, sampling(seed), func(t infer.Token) error {
		tokens = append(tokens, t.ID)
		progress(len(tokens))
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	if info := w.model.Info(); info.AddBOS && len(start) > 0 && start[0] == info.BOS {
		start = start[1:] // windows begin with it
	}
	text, err := w.model.Detokenize(ctx, append(start[:len(start):len(start)], tokens...))
	return strings.ToValidUTF8(text, "") + "\n", tokens, err
}

// begin returns the tokens that the model continues.
func (w writer) begin(ctx context.Context, prompt string) ([]int32, error) {
	if !w.chat {
		return w.model.Tokenize(ctx, prompt, true)
	}
	p, err := w.model.Prompt(ctx, []infer.Message{{Role: infer.User, Content: prompt}})
	return p.Tokens, err
}

// repeats reports whether too many sequences of tokens occur again.
func repeats(tokens []int32) bool {
	seen := make(map[[grams]int32]bool)
	all := 0
	for i := grams; i <= len(tokens); i++ {
		seen[[grams]int32(tokens[i-grams:i])] = true
		all++
	}
	return float64(len(seen)) < minDistinct*float64(all)
}
