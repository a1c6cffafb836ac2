package llamacpp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/logtail"
)

// abortGrace is how long a child may take to end an aborted request. It is long because a batch on a GPU cannot be
// interrupted.
const abortGrace = 20 * time.Second

// logTail is the number of log lines that an error quotes.
const logTail = 4

// process is a running child, which serves one request at a time; call is used by one goroutine at a time.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	frames  chan frame // from the child; closed when it has ended
	ended   chan struct{}
	logPath string
	engine  string

	libraries bool // whether GPU libraries were loaded

	writing sync.Mutex // keeps frames whole: abort and threads are sent during a request
	nextID  uint64

	mu      sync.Mutex
	killed  bool  // by this process
	readErr error // why reading frames ended, if not by the end of the process
	exit    error // set before ended is closed
}

// startProcess starts a child and waits for its greeting.
func startProcess(ctx context.Context, o Options) (*process, error) {
	log, err := os.CreateTemp(o.LogDir, "lathe-engine-*.log")
	if err != nil {
		return nil, fmt.Errorf("llamacpp: engine log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor

	cmd := exec.Command(o.Executable, childArgument)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stderr = log
	bindToParent(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("llamacpp: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("llamacpp: %w", err)
	}
	p := &process{cmd: cmd, in: in, frames: make(chan frame), ended: make(chan struct{}), logPath: log.Name()}
	started := make(chan error, 1)
	go p.run(out, started)
	if err := <-started; err != nil {
		_ = os.Remove(p.logPath)
		return nil, fmt.Errorf("llamacpp: starting the engine: %w", err)
	}
	if err := p.greet(ctx); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// run starts the child, reads its frames and waits for its end, all on one locked thread: Linux kills a child when the thread
// that started it ends, and the Go runtime ends idle threads.
func (p *process) run(out io.Reader, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(out)
	}()
	<-read
	err = p.cmd.Wait()
	p.mu.Lock()
	p.exit = err
	p.mu.Unlock()
	close(p.ended)
	close(p.frames)
}

// read passes on frames until the child ends or sends anything else, and then kills it.
func (p *process) read(out io.Reader) {
	r := bufio.NewReaderSize(out, 1<<16)
	for {
		f, err := readFrame(r)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				p.mu.Lock()
				p.readErr = err
				p.mu.Unlock()
			}
			_ = p.cmd.Process.Kill()
			return
		}
		p.frames <- f
	}
}

func (p *process) greet(ctx context.Context) error {
	select {
	case f, ok := <-p.frames:
		if !ok {
			return p.crash()
		}
		hello, err := decode[helloReply](f)
		if err != nil || f.Kind != kindHello || hello.Version != protocolVersion {
			return errors.New("llamacpp: the engine uses another protocol: was the program replaced while it runs?")
		}
		if hello.Engine == "" {
			return fmt.Errorf("llamacpp: %w (built without cgo)", infer.ErrUnavailable)
		}
		p.engine = hello.Engine
		return nil
	case <-ctx.Done():
		return fmt.Errorf("llamacpp: starting the engine: %w", context.Cause(ctx))
	}
}

// kill ends the child, waits until it has ended and removes its log.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
	_ = p.in.Close()
	for range p.frames { // run sends them until the end
	}
	<-p.ended
	_ = os.Remove(p.logPath)
}

// alive reports whether the child has not ended.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) write(id uint64, k kind, body any) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return writeFrame(p.in, id, k, body)
}

// setThreads may be called at any time.
func (p *process) setThreads(n int) error { return p.write(0, kindThreads, threadsRequest{n}) }

// call sends a request, passes its events to event and returns its result. An error of event, or the end of ctx, aborts the
// request and is returned, beside the result if the child sent one.
func (p *process) call(ctx context.Context, k kind, body any, event func(frame) error) (frame, error) {
	p.nextID++
	id := p.nextID
	if err := p.write(id, k, body); err != nil {
		if errors.Is(err, errProtocol) || errors.Is(err, errMessage) {
			return frame{}, err // not sent
		}
		return frame{}, p.drain()
	}
	done := ctx.Done()
	var grace <-chan time.Time
	var stop error // why the request was aborted
	abort := func(why error) {
		stop, done = why, nil
		grace = time.After(abortGrace)
		if err := p.write(id, kindAbort, nil); err != nil {
			_ = p.cmd.Process.Kill()
		}
	}
	for {
		select {
		case f, ok := <-p.frames:
			switch {
			case !ok:
				if err := p.crash(); stop == nil {
					stop = err
				}
				return frame{}, stop
			case f.ID != id:
				_ = p.cmd.Process.Kill()
				return frame{}, p.drain()
			case f.Kind == kindEvent:
				if stop != nil || event == nil {
					continue
				}
				if err := event(f); err != nil {
					abort(err)
				}
			case f.Kind == kindResult:
				return f, stop
			case f.Kind == kindFailure:
				failed, err := decode[failure](f)
				if err == nil {
					err = failed.err()
				}
				if stop != nil {
					err = stop
				}
				return frame{}, err
			}
		case <-done:
			abort(context.Cause(ctx))
		case <-grace:
			_ = p.cmd.Process.Kill()
		}
	}
}

// drain waits for the end of the child and returns its reason.
func (p *process) drain() error {
	for range p.frames {
	}
	return p.crash()
}

// crash returns the error of a child that ended by itself, or infer.ErrClosed after kill.
func (p *process) crash() error {
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return infer.ErrClosed
	}
	why := "it exited"
	if p.exit != nil {
		why = p.exit.Error()
	}
	if p.readErr != nil {
		why = p.readErr.Error()
	}
	lines := logtail.Lines(p.logPath, logTail)
	if len(lines) > 0 {
		why += ": " + strings.Join(lines, " | ")
	}
	err := fmt.Errorf("%w: %s (log: %s)", infer.ErrEngineCrashed, why, filepath.Clean(p.logPath))
	if fault := gpuFault(p.logPath); p.libraries && fault != "" {
		return &gpuError{fault, err}
	}
	return err
}
