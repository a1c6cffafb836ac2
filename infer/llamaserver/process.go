package llamaserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/logtail"
)

// logTail is the number of log lines that an error quotes.
const logTail = 4

// server is a llama-server that answers, one that was started or one at a URL.
type server struct {
	*client
	cmd     *exec.Cmd     // nil for one at a URL
	ended   chan struct{} // closed when the process has ended; nil for one at a URL
	logPath string

	mu     sync.Mutex
	killed bool
	exit   error // set before ended is closed
}

// launch starts a server for a file and waits until it has loaded the file.
func launch(ctx context.Context, program string, o infer.LoadOptions, info infer.Info, e Options) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(e.LogDir, "lathe-llama-server-*.log")
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	const address = "127.0.0.1"
	key := rand.Text()
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-m", path, "--host", address, "--port", strconv.Itoa(port), "-np", "1", "-c", strconv.Itoa(info.Context+spare),
		"-t", strconv.Itoa(info.Threads), "-ngl", strconv.Itoa(layersOf(o)))
	if o.Batch > 0 {
		cmd.Args = append(cmd.Args, "-b", strconv.Itoa(o.Batch))
	}
	if info.KVType != infer.KVF16 {
		cmd.Args = append(cmd.Args, "-ctk", info.KVType, "-ctv", info.KVType)
	}
	// The key is in the environment because every user of the machine can read arguments. The flag for flash attention has a value in
	// some versions only; the variable has one in all.
	flash := "off"
	if info.FlashAttention {
		flash = "on"
	}
	cmd.Env = append(os.Environ(), e.Env...)
	cmd.Env = append(cmd.Env, "LLAMA_API_KEY="+key, "LLAMA_ARG_FLASH_ATTN="+flash)
	cmd.Stdout, cmd.Stderr = log, log
	bindToParent(cmd)
	s := &server{client: newClient(fmt.Sprintf("http://%s:%d", address, port), key), cmd: cmd, ended: make(chan struct{}), logPath: log.Name()}
	started := make(chan error, 1)
	go s.run(started)
	if err := <-started; err != nil {
		_ = os.Remove(s.logPath)
		return nil, fmt.Errorf("%w: starting %s: %w", infer.ErrUnavailable, program, err)
	}
	ready, cancel := context.WithTimeoutCause(ctx, e.StartTimeout, fmt.Errorf("the server has not loaded the model in %v", e.StartTimeout))
	defer cancel()
	if err := s.wait(ready); err != nil {
		if s.alive() {
			s.kill()
		}
		return nil, err
	}
	return s, nil
}

// spare is how many tokens the context of a server has beyond the one asked for: benchmarks generate one token more than they measure.
const spare = 8

// layersOf returns the layers on the GPU in llama-server's words, where all is a number that no model has.
func layersOf(o infer.LoadOptions) int {
	const all = 9999
	if o.GPULayers < 0 {
		return all
	}
	return o.GPULayers
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// run starts the process and waits for its end on one locked thread: Linux kills a child when the thread that started it ends, and the
// Go runtime ends idle threads.
func (s *server) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := s.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = s.cmd.Wait()
	s.mu.Lock()
	s.exit = err
	s.mu.Unlock()
	close(s.ended)
}

// wait waits until the server has loaded its model, and checks that it asks for the key.
func (s *server) wait(ctx context.Context) error {
	for {
		status, err := s.health(ctx)
		switch {
		case status == http.StatusOK:
			return s.guarded(ctx)
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("the server answers /health with status %d", status)
		}
		select {
		case <-s.ended:
			return s.crash()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// guarded returns an error if the server answers without the key: other users of the machine could use it.
func (s *server) guarded(ctx context.Context) error {
	open := *s.client
	open.key = ""
	err := open.post(ctx, "/tokenize", map[string]any{"content": ""}, &struct{}{})
	if refused := (*statusError)(nil); errors.As(err, &refused) && refused.status == http.StatusUnauthorized {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.New("the server answers requests without its key: it does not read the variable LLAMA_API_KEY")
}

// alive reports whether the process has not ended. A server at a URL counts as alive.
func (s *server) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// kill ends the process, waits until it has ended and removes its log.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	s.mu.Lock()
	s.killed = true
	s.mu.Unlock()
	_ = s.cmd.Process.Kill()
	<-s.ended
	_ = os.Remove(s.logPath)
}

// crash returns the error of a process that ended by itself, or infer.ErrClosed after kill.
func (s *server) crash() error {
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		return infer.ErrClosed
	}
	why := "it exited"
	if s.exit != nil {
		why = s.exit.Error()
	}
	if lines := logtail.Lines(s.logPath, logTail); len(lines) > 0 {
		why += ": " + strings.Join(lines, " | ")
	}
	return fmt.Errorf("%w: %s (log: %s)", infer.ErrEngineCrashed, why, s.logPath)
}

// explain replaces the error of a connection by that of a process that has ended.
func (s *server) explain(err error) error {
	lost := (*connectionError)(nil)
	if !errors.As(err, &lost) {
		return err
	}
	if s.ended != nil {
		const grace = 2 * time.Second // between the end of a connection and that of its process
		select {
		case <-s.ended:
			return s.crash()
		case <-time.After(grace):
		}
	}
	return fmt.Errorf("%w: %w", infer.ErrEngineCrashed, err)
}

var offloaded = regexp.MustCompile(`offloaded (\d+)/(\d+) layers to GPU`)

// placement returns how many layers are on GPUs according to the log.
func (s *server) placement() (layers int, text string) {
	if s.cmd == nil {
		return 0, ""
	}
	const head = 1 << 20
	f, err := os.Open(s.logPath)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = f.Close() }() // only read
	data := make([]byte, head)
	n, _ := f.Read(data) // what is there
	found := offloaded.FindSubmatch(data[:n])
	if found == nil {
		return 0, ""
	}
	layers, err = strconv.Atoi(string(found[1]))
	if err != nil || layers == 0 {
		return 0, ""
	}
	return layers, fmt.Sprintf("%s of %s layers on GPUs", found[1], found[2])
}
