package llamaserver

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/chat"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/memory"
)

// Model implements [infer.Model]: one file and the server that runs it.
type Model struct {
	engine  *Engine
	options infer.LoadOptions
	vocab   vocab
	queue   infer.Queue
	ctx     context.Context // done once closed
	cancel  context.CancelCauseFunc

	template   func() (*chat.Template, error)
	reportOnce sync.Once
	loading    chan struct{} // holds a value while fallback is not being loaded
	fallback   infer.Model   // nil until it is needed; guarded by loading
	mu         sync.Mutex
	server     *server // nil before the start; changed in a turn of the queue only
	info       infer.Info
}

// newModel checks options and file.
func newModel(e *Engine, o infer.LoadOptions) (*Model, error) {
	info, err := llamacpp.Inspect(o)
	if err != nil {
		return nil, err
	}
	m := &Model{engine: e, options: o, info: info, loading: make(chan struct{}, 1)}
	m.loading <- struct{}{}
	if err := m.vocab.read(o.Path, &m.info); err != nil {
		return nil, err
	}
	m.vocab.Split = func(string, bool) ([]int32, error) { return nil, infer.ErrClosed } // set for each use
	m.info.Engine = e.Name()
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.template = sync.OnceValues(func() (*chat.Template, error) { return chat.Parse(m.info.ChatTemplate) })
	return m, nil
}

// start starts a server, or connects to the one at the URL, and reads what it reports of itself. It is called in a turn of the queue, or
// before the model is shared.
func (m *Model) start(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.ctx, func() { cancel(infer.ErrClosed) })()
	s, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if err = m.describe(ctx, s); err != nil {
		err = s.explain(err)
		if s.cmd != nil && s.alive() {
			s.kill()
		}
		return err
	}
	m.mu.Lock()
	m.server = s
	m.mu.Unlock()
	if m.ctx.Err() != nil { // Close has not seen it
		s.kill()
		return infer.ErrClosed
	}
	return nil
}

func (m *Model) connect(ctx context.Context) (*server, error) {
	e := m.engine.options
	if e.URL == "" {
		program, err := m.engine.program()
		if err != nil {
			return nil, err
		}
		return launch(ctx, program, m.options, m.Info(), e)
	}
	s := &server{client: newClient(e.URL, e.Key)}
	limited, cancel := context.WithTimeoutCause(ctx, e.StartTimeout, fmt.Errorf("the server at %s has not loaded its model in %v", e.URL, e.StartTimeout))
	defer cancel()
	for {
		switch status, err := s.health(limited); {
		case err != nil && limited.Err() != nil:
			return nil, context.Cause(limited)
		case err != nil:
			return nil, fmt.Errorf("%w: %w", infer.ErrUnavailable, err)
		case status == http.StatusOK:
			return s, nil
		case status != http.StatusServiceUnavailable:
			return nil, fmt.Errorf("%w: %s answers /health with status %d: is it a llama-server?", infer.ErrUnavailable, e.URL, status)
		}
		select {
		case <-limited.Done():
			return nil, context.Cause(limited)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// describe asks the server for its version, its context and its model, and whether texts begin with the start token.
func (m *Model) describe(ctx context.Context, s *server) error {
	var props struct {
		Settings struct {
			Context int `json:"n_ctx"`
		} `json:"default_generation_settings"`
		Build string `json:"build_info"`
	}
	if err := s.ask(ctx, http.MethodGet, "/props", nil, &props); err != nil {
		return err
	}
	var models struct {
		Data []struct {
			Meta struct {
				Vocab  int   `json:"n_vocab"`
				Hidden int   `json:"n_embd"`
				Params int64 `json:"n_params"`
			} `json:"meta"`
		} `json:"data"`
	}
	if err := s.ask(ctx, http.MethodGet, "/v1/models", nil, &models); err != nil {
		return err
	}
	info := m.Info()
	for _, d := range models.Data[:min(1, len(models.Data))] {
		if got := d.Meta; got.Vocab != 0 && got.Vocab != info.Vocab || got.Hidden != 0 && got.Hidden != info.Hidden || s.cmd == nil && got.Params != 0 && got.Params != info.Params {
			return fmt.Errorf("%w: the server runs another model: %d parameters, hidden size %d, vocabulary of %d; %s has %d, %d and %d", infer.ErrBadModel,
				got.Params, got.Hidden, got.Vocab, filepath.Base(info.Path), info.Params, info.Hidden, info.Vocab)
		}
	}
	n := props.Settings.Context
	switch {
	case n < 1:
		return replyError("/props", "default_generation_settings.n_ctx", "%d tokens of context", n)
	case n < info.Context && m.options.Context > 0:
		return fmt.Errorf("context of %d tokens, that of the server has %d: %w", info.Context, n, infer.ErrInvalid)
	}
	info.Context = min(info.Context, n)
	with, err := m.split(ctx, s, "a", true, true)
	if err != nil {
		return err
	}
	info.AddBOS = len(with) > 0 && info.BOS >= 0 && with[0] == info.BOS
	info.Engine = m.engine.Name()
	if build := oneLine(props.Build); build != "" {
		info.Engine += " " + build
	}
	info.GPULayers, info.Placement = s.placement()
	if info.Placement == "" {
		info.Placement = info.Engine
	}
	m.mu.Lock()
	info.LoadTime = m.info.LoadTime
	m.info = info
	m.mu.Unlock()
	return nil
}

// enter waits for a turn of the queue. The context it returns ends with ctx or with the model.
func (m *Model) enter(ctx context.Context, what string) (_ context.Context, end func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(m.ctx, func() { cancel(infer.ErrClosed) })
	release := func() { detach(); cancel(nil) }
	if m.ctx.Err() != nil {
		release()
		return nil, nil, fail(what, infer.ErrClosed)
	}
	leave, err := m.queue.Enter(ctx, what)
	if err != nil {
		err = context.Cause(ctx)
		release()
		return nil, nil, fail(what, err)
	}
	return ctx, func() { leave(); release() }, nil
}

// begin is enter, with a server that runs.
func (m *Model) begin(ctx context.Context, what string) (_ context.Context, s *server, end func(), err error) {
	ctx, end, err = m.enter(ctx, what)
	if err != nil {
		return nil, nil, nil, err
	}
	m.mu.Lock()
	s = m.server
	m.mu.Unlock()
	if !s.alive() {
		if err := m.start(ctx); err != nil {
			end()
			return nil, nil, nil, fail(what, fmt.Errorf("restarting the server: %w", err))
		}
		m.mu.Lock()
		s = m.server
		m.mu.Unlock()
	}
	return ctx, s, end, nil
}

// fail adds the name of the call to an error.
func fail(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("llama-server: %s: %w", what, err)
}

// ended returns the error of a call: why its context ended, or what the server's end explains.
func ended(ctx context.Context, s *server, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fail(what, context.Cause(ctx))
	}
	return fail(what, s.explain(err))
}

// Info implements [infer.Model].
func (m *Model) Info() infer.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.info
}

// Queue implements [infer.Model].
func (m *Model) Queue() infer.QueueState { return m.queue.State() }

// SetThreads implements [infer.Model], but for threads: a server keeps the number it was started with, which Info has.
func (m *Model) SetThreads(n int) error {
	if err := infer.ValidateThreads(n); err != nil {
		return fmt.Errorf("llama-server: %w", err)
	}
	if m.ctx.Err() != nil {
		return fmt.Errorf("llama-server: %w", infer.ErrClosed)
	}
	return nil
}

// Close implements [infer.Model].
func (m *Model) Close() error {
	m.cancel(infer.ErrClosed)
	m.engine.models.Remove(m)
	m.mu.Lock()
	s := m.server
	m.mu.Unlock()
	if s != nil && s.cmd != nil && s.alive() { // the log of a crashed server is kept: an error names it
		s.kill()
	}
	<-m.loading // a load that is running ends with m.ctx
	defer func() { m.loading <- struct{}{} }()
	if m.fallback != nil {
		return m.fallback.Close()
	}
	return nil
}

// Memory implements [infer.Model]. Weights and cache are estimates; what is on GPUs is not known.
func (m *Model) Memory(ctx context.Context) (infer.Memory, error) {
	_, s, end, err := m.begin(ctx, "memory")
	if err != nil {
		return infer.Memory{}, err
	}
	defer end()
	return m.measure(s), nil
}

func (m *Model) measure(s *server) infer.Memory {
	found := m.Info().Needed
	if s.cmd != nil {
		found.Resident, found.Peak = memory.Resident(s.cmd.Process.Pid)
	}
	return found
}

// split converts text to tokens on the server. start prepends the start token where the model has one.
func (m *Model) split(ctx context.Context, s *server, text string, start, parse bool) ([]int32, error) {
	var reply struct {
		Tokens []int32 `json:"tokens"`
	}
	err := s.post(ctx, "/tokenize", map[string]any{"content": text, "add_special": start, "parse_special": parse}, &reply)
	if err == nil {
		err = m.known("/tokenize", "tokens", reply.Tokens)
	}
	return reply.Tokens, err
}

// known returns an error for tokens of a reply that are not in the vocabulary.
func (m *Model) known(path, field string, ids []int32) error {
	for _, id := range ids {
		if id < 0 || int(id) >= len(m.vocab.texts) {
			return replyError(path, field, "token %d of a vocabulary of %d", id, len(m.vocab.texts))
		}
	}
	return nil
}

// Tokenize implements [infer.Model]. Text that is not valid UTF-8 is infer.ErrInvalid.
func (m *Model) Tokenize(ctx context.Context, text string, special bool) ([]int32, error) {
	ctx, s, end, err := m.begin(ctx, "tokenize")
	if err != nil {
		return nil, err
	}
	defer end()
	t := m.tokenizer(ctx, s)
	ids, err := t.Tokenize(text, special && m.Info().AddBOS, special)
	return ids, ended(ctx, s, "tokenize", err)
}

// Detokenize implements [infer.Model].
func (m *Model) Detokenize(ctx context.Context, ids []int32) (string, error) {
	pieces, err := m.Pieces(ctx, ids)
	return strings.Join(pieces, ""), err
}

// Pieces implements [infer.Model]. They are read from the file: the server's replies cannot hold parts of runes.
func (m *Model) Pieces(ctx context.Context, ids []int32) ([]string, error) {
	_, end, err := m.enter(ctx, "pieces")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := m.check(ids); err != nil {
		return nil, fail("pieces", err)
	}
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = m.vocab.piece(id)
	}
	return out, nil
}

// Control implements [infer.Model].
func (m *Model) Control(ctx context.Context, ids []int32) ([]bool, error) {
	_, end, err := m.enter(ctx, "control")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := m.check(ids); err != nil {
		return nil, fail("control", err)
	}
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = m.vocab.control(id)
	}
	return out, nil
}

// check returns infer.ErrBadToken for a token that is not in the vocabulary.
func (m *Model) check(ids []int32) error {
	if i := slices.IndexFunc(ids, func(id int32) bool { return id < 0 || int(id) >= len(m.vocab.texts) }); i >= 0 {
		return fmt.Errorf("token %d of a vocabulary of %d: %w", ids[i], len(m.vocab.texts), infer.ErrBadToken)
	}
	return nil
}
