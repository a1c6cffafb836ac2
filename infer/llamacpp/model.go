package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/logtail"
	"github.com/lathe-llm/lathe/infer/memory"
)

// Model implements [infer.Model]: one loaded file and the child that runs it.
type Model struct {
	engine *Engine
	plan   plan
	queue  infer.Queue
	ctx    context.Context // done once closed
	cancel context.CancelCauseFunc

	culprit sync.Once // sets broken
	broken  string    // tensor of the file that has a NaN; "" for none

	mu       sync.Mutex
	process  *process // nil after a crash, until the next call; changed in a turn of the queue only
	info     infer.Info
	memory   infer.Memory // weights, cache and buffers as llama.cpp reports them
	measured measured
	lost     string // why GPUs are no longer used; "" while they may be
	threads  int
}

// start starts a child and loads the model in it. It is called in a turn of the queue, or before the model is shared.
func (m *Model) start(ctx context.Context, progress func(float64)) error {
	m.mu.Lock()
	lost := m.lost
	m.mu.Unlock()
	c, err := m.launch(ctx, progress, lost)
	if fault := (*gpuError)(nil); lost == "" && errors.As(err, &fault) && m.resumes(err) {
		lost = fault.fault
		c, err = m.launch(ctx, progress, lost)
	}
	if err != nil {
		return err
	}
	p, plan := c.process, c.plan
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		p.kill()
		return infer.ErrClosed
	}
	m.process, m.lost = p, lost
	m.describe(c)
	if m.threads != plan.request.Threads {
		return p.setThreads(m.threads)
	}
	return nil
}

// child is a process that has loaded the model, and what is known of it.
type child struct {
	process  *process
	loaded   loadReply
	plan     plan
	devices  []infer.Device
	fallback string
}

// launch starts a child, places the layers and loads the file. lost is why GPUs are not to be used; "" if they may be.
// Cancelling ctx kills the child: llama.cpp has no other way to stop a load.
func (m *Model) launch(ctx context.Context, progress func(float64), lost string) (c child, err error) {
	defer func() {
		if err == nil {
			return
		}
		ended := ctx.Err() != nil || m.ctx.Err() != nil
		if c.process != nil && (ended || c.process.alive()) { // the log of a crashed child is kept: the error names it
			c.process.kill()
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else if m.ctx.Err() != nil {
			err = context.Cause(m.ctx)
		}
	}()
	o := m.engine.options
	c.plan, c.fallback = m.plan, lost
	if lost != "" {
		c.plan.request.GPULayers = 0
	}
	if c.plan.request.GPULayers == 0 {
		o.Libraries = ""
	}
	p, failed, err := startWithLibraries(ctx, o)
	if err != nil {
		if o.Libraries != "" && errors.Is(err, infer.ErrEngineCrashed) {
			err = &gpuError{crashOfLibraries(o.Libraries, err), err}
		}
		return c, err
	}
	c.process = p
	if err := m.guard(ctx, p, func() error { return m.placeIn(ctx, &c, failed) }); err != nil {
		return c, err
	}
	if c.plan.request.GPULayers == 0 && p.libraries {
		// llama.cpp computes large products on any GPU that it finds, even with all layers on the processor.
		p.kill()
		o.Libraries = ""
		if c.process, _, err = startWithLibraries(ctx, o); err != nil {
			return c, err
		}
	}
	err = m.guard(ctx, c.process, func() error { return m.loadIn(ctx, &c, progress) })
	return c, err
}

// guard calls use, and kills p if ctx or the model ends before use returns.
func (m *Model) guard(ctx context.Context, p *process, use func() error) error {
	detach := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer detach()
	detachClose := context.AfterFunc(m.ctx, func() { _ = p.cmd.Process.Kill() })
	defer detachClose()
	return use()
}

// placeIn lists the devices and places the layers. failed has the GPU libraries that do not load.
func (m *Model) placeIn(ctx context.Context, c *child, failed []string) error {
	var err error
	if c.devices, err = devices(context.WithoutCancel(ctx), c.process); err != nil {
		return err
	}
	why := m.engine.options.NoLibraries
	if len(failed) > 0 {
		why = strings.Join(failed, "; ")
	}
	err = c.plan.place(c.devices, memory.Free())
	if errors.Is(err, infer.ErrNoGPU) {
		if why == "" {
			why = "`make gpu` builds its library, lathe doctor shows what is found"
		}
		return fmt.Errorf("%w (%s): use --gpu auto or off", err, why)
	}
	if m.plan.request.GPULayers != 0 && c.plan.request.GPULayers == 0 && c.fallback == "" {
		if c.fallback = why; slices.ContainsFunc(c.devices, func(d infer.Device) bool { return d.GPU }) {
			c.fallback = "no layer fits in the free memory of the GPU"
		}
	}
	return err
}

// loadIn loads the file.
func (m *Model) loadIn(ctx context.Context, c *child, progress func(float64)) error {
	f, err := c.process.call(context.WithoutCancel(ctx), kindLoad, c.plan.request, func(f frame) error {
		e, err := decode[progressEvent](f)
		if err == nil && progress != nil {
			progress(min(max(e.Share, 0), 1))
		}
		return err
	})
	if errors.Is(err, infer.ErrBadModel) {
		if fault := gpuFault(c.process.logPath); fault != "" && c.process.libraries {
			return &gpuError{fault, err}
		}
		return explain(err, c.process.logPath)
	}
	if err != nil {
		return err
	}
	c.loaded, err = decode[loadReply](f)
	return err
}

// explain adds the last error that llama.cpp logged while loading.
func explain(err error, logPath string) error {
	lines := logtail.Lines(logPath, 40)
	for i := len(lines) - 1; i >= 0; i-- {
		if _, why, ok := strings.Cut(lines[i], "error loading model: "); ok {
			return fmt.Errorf("%w: %s", err, why)
		}
	}
	return err
}

// describe fills in m.info after a load. m.mu is held.
func (m *Model) describe(c child) {
	l, p := c.loaded, c.plan
	load := m.info.LoadTime
	m.info = infer.Info{
		Path: p.options.Path, Name: p.name, Arch: p.arch, Type: weightType(l.Type), FileBytes: p.bytes, Params: l.Params,
		Layers: l.Layers, Hidden: l.Hidden, Vocab: l.Vocab, TrainContext: l.TrainContext,
		BOS: l.BOS, EOS: l.EOS, AddBOS: l.AddBOS, LongestToken: l.LongestToken,
		Context: l.Context, Threads: p.request.Threads, GPULayers: p.request.GPULayers,
		FlashAttention: p.request.FlashAttention, KVType: p.request.KVType, ChatTemplate: p.template,
		Engine: engineName, LoadTime: load, Needed: p.need.memory(), Fallback: c.fallback,
	}
	m.memory = m.info.Needed
	read, ok := readMeasured(m.process.logPath)
	if ok {
		m.memory = read.memory
	}
	m.measured = read
	m.info.Placement = read.placement(c.devices)
	m.memory.Weights = l.WeightBytes
}

// weightType returns the type in llama.cpp's description, such as "llama 135M Q4_1".
func weightType(description string) string {
	fields := strings.SplitN(description, " ", 3)
	return fields[len(fields)-1]
}

// begin waits for a turn of the queue and starts a child if none runs. The context it returns ends with ctx or with the
// model. end ends the turn.
func (m *Model) begin(ctx context.Context, what string) (_ context.Context, p *process, end func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(m.ctx, func() { cancel(infer.ErrClosed) })
	release := func() { detach(); cancel(nil) }
	if m.ctx.Err() != nil {
		release()
		return nil, nil, nil, m.fail(what, infer.ErrClosed)
	}
	leave, err := m.queue.Enter(ctx, what)
	if err != nil {
		err = context.Cause(ctx)
		release()
		return nil, nil, nil, m.fail(what, err)
	}
	p, err = m.running(ctx)
	if err != nil {
		leave()
		release()
		return nil, nil, nil, m.fail(what, err)
	}
	return ctx, p, func() { leave(); release() }, nil
}

// running returns the child, or a new one if it has ended. It is called in a turn of the queue.
func (m *Model) running(ctx context.Context) (*process, error) {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p != nil && p.alive() {
		return p, nil
	}
	lost := ""
	if p != nil && p.libraries && m.mayFallBack() {
		lost = gpuFault(p.logPath)
	}
	m.mu.Lock()
	m.process = nil
	if lost != "" {
		m.lost = lost
	}
	m.mu.Unlock()
	if err := m.start(ctx, nil); err != nil {
		return nil, fmt.Errorf("restarting the engine: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process, nil
}

// fail adds the name of the call to an error.
func (m *Model) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("llamacpp: %s: %w", what, m.explainNumbers(err))
}

// Info implements [infer.Model].
func (m *Model) Info() infer.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := m.info
	info.Threads = m.threads
	return info
}

// Queue implements [infer.Model].
func (m *Model) Queue() infer.QueueState { return m.queue.State() }

// SetThreads implements [infer.Model].
func (m *Model) SetThreads(n int) error {
	if n == 0 {
		n = PhysicalCores()
	}
	if err := infer.ValidateThreads(n); err != nil {
		return fmt.Errorf("llamacpp: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return fmt.Errorf("llamacpp: %w", infer.ErrClosed)
	}
	m.threads = n
	if m.process == nil || !m.process.alive() {
		return nil // the next start uses it
	}
	if err := m.process.setThreads(n); err != nil && m.process.alive() {
		return fmt.Errorf("llamacpp: threads: %w", err)
	}
	return nil
}

// Close implements [infer.Model].
func (m *Model) Close() error {
	m.cancel(infer.ErrClosed)
	m.engine.models.Remove(m)
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p != nil && p.alive() { // the log of a crashed child is kept: an error names it
		p.kill()
	}
	return nil
}

// Memory implements [infer.Model].
func (m *Model) Memory(ctx context.Context) (infer.Memory, error) {
	ctx, p, end, err := m.begin(ctx, "memory")
	if err != nil {
		return infer.Memory{}, err
	}
	defer end()
	found, err := m.measure(ctx, p)
	return found, m.fail("memory", err)
}

func (m *Model) measure(ctx context.Context, p *process) (infer.Memory, error) {
	m.mu.Lock()
	found, read := m.memory, m.measured
	m.mu.Unlock()
	found.Resident, found.Peak = memory.Resident(p.cmd.Process.Pid)
	var err error
	found.Devices, err = devices(ctx, p)
	read.fill(found.Devices)
	return found, err
}

// Tokenize implements [infer.Model].
func (m *Model) Tokenize(ctx context.Context, text string, special bool) ([]int32, error) {
	ctx, p, end, err := m.begin(ctx, "tokenize")
	if err != nil {
		return nil, err
	}
	defer end()
	reply, err := ask[tokensReply](ctx, p, kindTokenize, tokenizeRequest{[]byte(text), special})
	return reply.Tokens, m.fail("tokenize", err)
}

// Detokenize implements [infer.Model].
func (m *Model) Detokenize(ctx context.Context, ids []int32) (string, error) {
	pieces, err := m.Pieces(ctx, ids)
	return strings.Join(pieces, ""), err
}

// Pieces implements [infer.Model].
func (m *Model) Pieces(ctx context.Context, ids []int32) ([]string, error) {
	reply, err := m.pieces(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(ids))
	for i, piece := range reply.Pieces {
		out[i] = string(piece)
	}
	return out, nil
}

// Control implements [infer.Model].
func (m *Model) Control(ctx context.Context, ids []int32) ([]bool, error) {
	reply, err := m.pieces(ctx, ids)
	return reply.Control, err
}

func (m *Model) pieces(ctx context.Context, ids []int32) (piecesReply, error) {
	ctx, p, end, err := m.begin(ctx, "pieces")
	if err != nil {
		return piecesReply{}, err
	}
	defer end()
	reply, err := ask[piecesReply](ctx, p, kindPieces, piecesRequest{ids})
	if err == nil && (len(reply.Pieces) != len(ids) || len(reply.Control) != len(ids)) {
		err = fmt.Errorf("%w: %d pieces of %d tokens", errProtocol, len(reply.Pieces), len(ids))
	}
	return reply, m.fail("pieces", err)
}

// ask sends a request that has no events.
func ask[Reply any](ctx context.Context, p *process, k kind, request any) (Reply, error) {
	f, err := p.call(ctx, k, request, nil)
	if err != nil {
		var none Reply
		return none, err
	}
	return decode[Reply](f)
}

// Prompt implements [infer.Model].
func (m *Model) Prompt(ctx context.Context, messages []infer.Message) (infer.Prompt, error) {
	return m.PromptWith(ctx, infer.Conversation{Messages: messages})
}

// PromptWith implements [infer.Model].
func (m *Model) PromptWith(ctx context.Context, c infer.Conversation) (infer.Prompt, error) {
	ctx, p, end, err := m.begin(ctx, "prompt")
	if err != nil {
		return infer.Prompt{}, err
	}
	defer end()
	prompt, _, err := m.prompt(ctx, p, c)
	return prompt, m.fail("prompt", err)
}

// prompt renders with the file's template or, where it has none, in a built-in format. Stops are texts that end a reply in that
// format.
func (m *Model) prompt(ctx context.Context, p *process, c infer.Conversation) (prompt infer.Prompt, stops []string, err error) {
	if n, context := len(c.Messages), m.Info().Context; n > context {
		return infer.Prompt{}, nil, fmt.Errorf("a conversation of %d messages, context of %d tokens: %w", n, context, infer.ErrContextFull)
	}
	reply, err := ask[promptReply](ctx, p, kindPrompt, promptRequest{
		Template: m.plan.template, Source: filepath.Base(m.plan.options.Path), Marks: m.plan.marks, Format: m.plan.format, Conversation: c,
	})
	return infer.Prompt{Text: reply.Text, Tokens: reply.Tokens, Warning: reply.Warning}, reply.Stops, err
}
