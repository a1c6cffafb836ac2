//go:build cgo && !nocgo

package llamacpp

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/vocabulary"
	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"
)

// engineName is what Engine.Name returns; the Bindings report no version.
const engineName = "llama.cpp (as in ollama " + Bindings + ")"

// network is a loaded model with its context. Its cache holds one sequence of tokens. All methods but setAbort are called by
// one goroutine.
type network struct {
	*native
	model *llama.Model
	ctx   *llama.Context
	batch *llama.Batch
	info  loadReply
	size  int            // of a batch
	ends  map[int32]bool // end tokens of the file that llama.cpp does not know

	tokenizer vocabulary.Tokenizer
}

func startEngine() {
	// The module would load the libraries of an Ollama that is installed beside the program.
	_ = os.Setenv("OLLAMA_LIBRARY_PATH", "") // fails for malformed names only
	llama.BackendInit()
}

// loadNetwork loads the file and creates its context.
func loadNetwork(r loadRequest, progress func(float32)) (*network, error) {
	// llama.cpp reports the device of each layer in debugging messages.
	usual := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(usual)
	model, err := llama.LoadModelFromFile(r.Path, llama.ModelParams{
		NumGpuLayers: r.GPULayers, UseMmap: true, Progress: progress,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: llama.cpp cannot load it", infer.ErrBadModel)
	}
	flash := ml.FlashAttentionDisabled
	if r.FlashAttention {
		flash = ml.FlashAttentionEnabled
	}
	params := llama.NewContextParams(r.Context, r.Batch, 1, r.Threads, flash, r.KVType)
	ctx, err := llama.NewContextWithModel(model, params)
	if err != nil {
		llama.FreeModel(model)
		return nil, fmt.Errorf("%w: llama.cpp cannot create a context of %d tokens for it", infer.ErrBadModel, r.Context)
	}
	n, err := newNative(ctx, model)
	if err != nil {
		llama.FreeModel(model)
		return nil, err
	}
	net := &network{native: n, model: model, ctx: ctx, size: r.Batch, ends: map[int32]bool{}}
	for _, id := range r.Ends {
		net.ends[id] = true
	}
	if net.batch, err = llama.NewBatch(r.Batch, 1, 0); err != nil {
		net.free()
		return nil, err
	}
	net.info.Vocab = model.NumVocab()
	net.info.Hidden = model.NEmbd()
	net.info.AddBOS = model.AddBOSToken()
	n.describe(&net.info)
	net.tokenizer = vocabulary.Tokenizer{BOS: net.info.BOS, Steps: gguf.TextSteps{Compose: r.Compose, SpacePrefix: r.SpacePrefix}, Apart: !r.Whole.Empty(), Split: net.split}
	net.tokenizer.Controls, net.tokenizer.Whole, net.info.LongestToken = n.readVocabulary(net.info.Vocab, r.Whole)
	net.info.Context = min(net.info.Context, r.Context) // llama.cpp pads it
	return net, nil
}

func (n *network) free() {
	if n.batch != nil {
		n.batch.Free()
	}
	n.native.free()
	llama.FreeModel(n.model)
}

func (n *network) isEnd(token int32) bool { return n.ends[token] || n.model.TokenIsEog(int(token)) }

// decode computes at most one batch of tokens, the first at position pos. Logits are kept for the last token, or for all. It
// returns errAborted after setAbort; the cache then holds a part of the batch.
func (n *network) decode(ids []int32, pos int, all bool) error {
	n.batch.Clear()
	for i, id := range ids {
		n.batch.Add(int(id), nil, pos+i, all || i == len(ids)-1, 0)
	}
	err := n.ctx.Decode(n.batch)
	switch {
	case err != nil && n.aborted():
		return errAborted
	case errors.Is(err, llama.ErrKvCacheFull):
		return fmt.Errorf("%d tokens: %w", pos+len(ids), infer.ErrContextFull)
	}
	return err
}

// finish waits until the last batch is computed: a GPU may still compute after decode.
func (n *network) finish() { n.ctx.Synchronize() }

// truncate removes the tokens from position pos on from the cache, or all of them where the cache cannot remove a part. kept
// is the number left.
func (n *network) truncate(pos int) (kept int) {
	if pos > 0 && n.ctx.KvCacheSeqRm(0, pos, -1) {
		return pos
	}
	n.ctx.KvCacheClear()
	return 0
}

// text returns a token spelled out, for templates; "" for a negative id.
func (n *network) text(token int32) string {
	if token < 0 {
		return ""
	}
	return strings.ToValidUTF8(string(n.piece(token)), "\uFFFD")
}
