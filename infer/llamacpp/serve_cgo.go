//go:build cgo && !nocgo

package llamacpp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// session is the state of the child: one model and the running request. One goroutine, in serve, answers requests; another
// reads frames meanwhile and accesses the atomics only.
type session struct {
	out      io.Writer
	net      *network
	past     tokens // tokens in the cache, in order
	current  uint64 // id of the running request, for its events
	compiled compiled

	running  atomic.Uint64           // id of the request that abort may end
	abortee  atomic.Pointer[network] // whose flag abort sets
	aborted  atomic.Bool             // the running request must end
	cancel   atomic.Pointer[func()]  // what abort calls besides; nil while no template is rendered
	threads  atomic.Int32            // requested; applied before the next batch
	applied  int                     // threads of the last batch
	governor governor
	governed bool // the governor may use fewer threads: not on a GPU, nor in a benchmark

	mu sync.Mutex // orders abort with the start of a request
}

// serve answers requests until in ends.
func serve(in io.Reader, out io.Writer) error {
	startEngine()
	if err := writeFrame(out, 0, kindHello, helloReply{Version: protocolVersion, Engine: engineName}); err != nil {
		return err
	}
	s := &session{out: out}
	requests := make(chan frame)
	failed := make(chan error, 1)
	go func() { failed <- s.listen(in, requests) }()
	for {
		select {
		case err := <-failed:
			return err
		case f := <-requests:
			if err := s.answer(f); err != nil {
				return err
			}
		}
	}
}

// listen reads frames until in ends, which means that the parent has ended: then this process exits, whatever it computes.
func (s *session) listen(in io.Reader, requests chan<- frame) error {
	for {
		f, err := readFrame(in)
		switch {
		case errors.Is(err, io.EOF):
			os.Exit(0)
		case err != nil:
			return err
		case f.Kind == kindAbort:
			s.abort(f.ID)
		case f.Kind == kindThreads:
			body, err := decode[threadsRequest](f)
			if err != nil {
				return err
			}
			s.threads.Store(int32(body.Threads))
		default:
			s.begin(f.ID)
			requests <- f
		}
	}
}

// begin makes id the request that abort may end.
func (s *session) begin(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted.Store(false)
	if n := s.abortee.Load(); n != nil {
		n.setAbort(false)
	}
	s.running.Store(id)
}

func (s *session) abort(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running.Load() != id {
		return
	}
	s.aborted.Store(true)
	if n := s.abortee.Load(); n != nil {
		n.setAbort(true)
	}
	if cancel := s.cancel.Load(); cancel != nil {
		(*cancel)()
	}
}

// answer answers one request. The error it returns ends the process.
func (s *session) answer(f frame) error {
	s.current = f.ID
	body, err := s.dispatch(f)
	if err != nil {
		if errors.Is(err, errProtocol) {
			return err
		}
		if werr := writeFrame(s.out, f.ID, kindFailure, failureOf(err)); werr != nil {
			return werr
		}
		return nil
	}
	err = writeFrame(s.out, f.ID, kindResult, body)
	if errors.Is(err, errMessage) {
		err = writeFrame(s.out, f.ID, kindFailure, failureOf(err))
	}
	return err
}

func (s *session) dispatch(f frame) (any, error) {
	switch f.Kind {
	case kindOpen:
		return handle(f, s.open)
	case kindDevices:
		return devicesReply{listDevices()}, nil
	case kindLoad:
		return handle(f, s.load)
	case kindPrompt:
		return handle(f, s.prompt)
	default: // nothing for the others
	}
	if s.net == nil {
		return nil, fmt.Errorf("%w: %s before a model is loaded", errProtocol, f.Kind)
	}
	switch f.Kind {
	case kindTokenize:
		return handle(f, s.tokenize)
	case kindPieces:
		return handle(f, s.pieces)
	case kindGenerate:
		return handle(f, s.generate)
	case kindScore:
		return handle(f, s.score)
	case kindBench:
		return handle(f, s.bench)
	default: // nothing for the others
	}
	return nil, fmt.Errorf("%w: unknown request %q", errProtocol, f.Kind)
}

// handle decodes the body and calls the handler of its type.
func handle[Request, Reply any](f frame, h func(Request) (Reply, error)) (any, error) {
	r, err := decode[Request](f)
	if err != nil {
		return nil, err
	}
	return h(r)
}

func (s *session) event(body any) error { return writeFrame(s.out, s.current, kindEvent, body) }

func (s *session) open(r openRequest) (openReply, error) {
	var reply openReply
	for _, path := range r.Paths {
		if err := openLibrary(path); err != nil {
			reply.Failed = append(reply.Failed, err.Error())
		}
	}
	return reply, nil
}

func (s *session) load(r loadRequest) (loadReply, error) {
	if s.net != nil {
		return loadReply{}, fmt.Errorf("%w: a model is already loaded", errProtocol)
	}
	var last time.Time
	net, err := loadNetwork(r, func(share float32) {
		if now := time.Now(); share >= 1 || now.Sub(last) > 50*time.Millisecond {
			last = now
			_ = s.event(progressEvent{float64(share)}) // listen notices the end of the parent
		}
	})
	if err != nil {
		return loadReply{}, err
	}
	s.net = net
	s.abortee.Store(net)
	s.threads.Store(int32(r.Threads))
	s.applied = r.Threads
	s.governed = r.GPULayers == 0
	return net.info, nil
}

func (s *session) tokenize(r tokenizeRequest) (tokensReply, error) {
	ids, err := s.net.tokenizer.Tokenize(string(r.Text), r.Special && s.net.info.AddBOS, r.Special)
	return tokensReply{ids}, err
}

func (s *session) pieces(r piecesRequest) (piecesReply, error) {
	if err := s.check(r.Tokens); err != nil {
		return piecesReply{}, err
	}
	out := piecesReply{make([][]byte, len(r.Tokens)), make([]bool, len(r.Tokens))}
	for i, id := range r.Tokens {
		out.Pieces[i], out.Control[i] = s.net.piece(id), s.net.isControl(id)
	}
	return out, nil
}

// check returns infer.ErrBadToken for tokens that llama.cpp would abort on.
func (s *session) check(ids tokens) error {
	for _, id := range ids {
		if id < 0 || int(id) >= s.net.info.Vocab {
			return fmt.Errorf("token %d of a vocabulary of %d: %w", id, s.net.info.Vocab, infer.ErrBadToken)
		}
	}
	return nil
}

// applyThreads sets the threads of the next batch: those requested, or fewer where the governor reduces them.
func (s *session) applyThreads() {
	n := int(s.threads.Load())
	if s.governed {
		if _, known := processTime(); known && n > 1 && s.governor.stale(time.Now()) {
			wall, cpu := spin(n, governorProbe)
			s.governor.probe(time.Now(), n, wall, cpu)
		}
		n = s.governor.allow(n)
	}
	if n > 0 && n != s.applied {
		s.net.setThreads(n)
		s.applied = n
	}
}

// extend computes ids after the tokens in the cache, a batch at a time. Logits are kept for the last token only or, with each,
// for every token: each is then called after every batch with the index in ids of its first token and its length. On an
// error the cache and past still hold the same tokens.
func (s *session) extend(ids []int32, each func(first, n int) error) error {
	step := s.net.size
	if each != nil {
		step = min(step, scoreBatch(s.net.info.Vocab))
	}
	for first := 0; first < len(ids); first += step {
		batch := ids[first:min(first+step, len(ids))]
		if err := s.decode(batch, each != nil); err != nil {
			return err
		}
		if each != nil {
			if err := each(first, len(batch)); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode computes one batch after the tokens in the cache.
func (s *session) decode(batch []int32, all bool) error {
	if s.aborted.Load() {
		return errAborted
	}
	if len(s.past)+len(batch) > s.net.info.Context {
		return fmt.Errorf("%d tokens: %w", len(s.past)+len(batch), infer.ErrContextFull)
	}
	s.applyThreads()
	begin := time.Now()
	before, known := processTime()
	if err := s.net.decode(batch, len(s.past), all); err != nil {
		s.keep(len(s.past))
		return err
	}
	if after, ok := processTime(); known && ok && s.governed {
		s.governor.observe(time.Now(), s.applied, time.Since(begin), after-before)
	}
	s.past = append(s.past, batch...)
	return nil
}

// keep removes all but the first n tokens from the cache.
func (s *session) keep(n int) { s.past = s.past[:s.net.truncate(n)] }

// reuse keeps the common prefix of the cache and ids, at most limit tokens, and returns its length.
func (s *session) reuse(ids []int32, limit int) int {
	n := 0
	for n < min(limit, len(s.past), len(ids)) && s.past[n] == ids[n] {
		n++
	}
	s.keep(n)
	return len(s.past)
}

// logits returns those of the i-th token of the last batch.
func (s *session) logits(i int) ([]float32, error) {
	logits := s.net.logits(i, s.net.info.Vocab)
	if logits == nil {
		return nil, fmt.Errorf("llama.cpp returned no logits for token %d of its batch", i)
	}
	return logits, nil
}
