package explorer

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// ChatID names a chat within its workspace.
type ChatID string

// A Chat is a conversation held with one or more subnets at once: the same prompts, the same seed, a column each.
type Chat struct {
	ID       ChatID
	Name     string
	Author   string
	Created  time.Time
	System   string // system prompt; "" for none
	Sampling infer.Sampling
	// GPU is how many layers of its models run on GPUs: "off", a number, or "auto", also for "", for as many as fit, within the
	// backend's setting.
	GPU     string   `json:",omitempty"`
	Prompts []Prompt // of the person, in order
	Columns []Column
	Busy    bool // columns are answering
	// Pausing reports that the columns wait for running jobs to pause before they answer.
	Pausing bool `json:"-"`
	// Comparing is how many prompts have replies that are being compared with the dense model.
	Comparing int `json:"-"`
	// Apart asks each prompt by itself: earlier turns are not part of what the models read.
	Apart bool `json:",omitempty"`
	// Blind hides which column is which until it is revealed; Votes counts a person's choices per column.
	Blind bool
	Votes []int
	// Ballots are, for each prompt, the column that was voted for, from 1; 0 for none, also where the slice ends.
	Ballots []int `json:",omitempty"`
}

// Order is the order in which the replies to a prompt are shown: that of the columns or, while the chat is blind, one drawn for each
// prompt, so that a guess about one prompt is worth nothing at the next.
func (c Chat) Order(prompt int) []int {
	if c.Blind {
		h := fnv.New64a()
		_, _ = fmt.Fprint(h, c.ID, c.Created.UnixNano()) // a hash never fails
		return rand.New(rand.NewPCG(h.Sum64(), uint64(max(prompt, 0)))).Perm(len(c.Columns))
	}
	out := make([]int, len(c.Columns))
	for i := range out {
		out[i] = i
	}
	return out
}

// A Prompt is one message of the person.
type Prompt struct {
	At   time.Time
	Text string
	Name string `json:",omitempty"` // of a built-in prompt: what it tests
	Look string `json:",omitempty"` // of a built-in prompt: what a good reply has
}

// A Column is one subnet's side of a chat.
type Column struct {
	Subnet  SubnetID
	Label   string  // the subnet's name when the column was opened
	Place   int     // queue position among those who wait for the same model; 0 when it is this column's turn
	Loading bool    // its model is being written or loaded
	Err     string  // why it cannot answer; one line
	Replies []Reply // one per prompt; the last may be unfinished
	Memory  int64   // bytes of weights and KV cache, 0 if unknown
	Context int     // tokens the engine has room for
	// GPUMemory is the part of Memory, and of buffers, that is on GPUs. Placement and Fallback are those of infer.Info.
	GPUMemory           int64  `json:",omitempty"`
	Placement, Fallback string `json:",omitempty"`
	Used                int    // tokens of the context in use
}

// A Reply is the answer of a subnet.
type Reply struct {
	Text            string
	Started         time.Time
	Streaming       bool
	Stopped         bool // by a person, before it was complete
	Err             string
	Cause           error `json:"-"` // the error of Err, for errors.Is; not stored
	PromptTokens    int
	Tokens          int
	FirstToken      time.Duration // from sending the prompt
	TokensPerSecond float64       // of generation
	// Deviation is the standard deviation of that speed between parts of the reply; 0 for short ones.
	Deviation float64 `json:",omitempty"`
	// Agreement is the share of its tokens that the dense model would have chosen too; negative while unknown.
	Agreement float64
	// Pieces are its tokens, compared with the dense model; nil before they are, and where that has no column.
	Pieces []Piece `json:",omitempty"`
	// Uncompared is why it could not be compared; one line.
	Uncompared string `json:",omitempty"`
	// LeftOut is how many turns at the beginning of the conversation, after the system prompt, the prompt does not have because
	// the context has no room for them.
	LeftOut int `json:",omitempty"`
	// Warning describes how the prompt differs from what the model's own chat template makes of the messages; or "".
	Warning string
}

// DefaultSampling returns the sampling of a new chat.
func DefaultSampling() infer.Sampling {
	return infer.Sampling{Temperature: 0.7, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1.1, Seed: 1, MaxTokens: 512}
}
