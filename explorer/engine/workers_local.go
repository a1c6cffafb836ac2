package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search/remote"
)

// localWorkers are the worker processes that a job has started.
type localWorkers struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu    sync.Mutex
	alive int
	notes func(string)
	fail  func(error)
}

// stop ends the workers.
func (l *localWorkers) stop() {
	l.cancel()
	l.ended.Wait()
}

// workerRestarts is how often a worker that ends unexpectedly is started again.
const workerRestarts = 20

// startWorkers starts workers on this machine. They end with this process, and one that dies is started again. Where there can be no
// others, fail is called when none is left.
func (e *Engine) startWorkers(n int, only bool, with settings, spec remote.Spec, a remote.Address, shared string, note func(string), fail func(error)) (*localWorkers, error) {
	if len(e.options.Worker) == 0 {
		return nil, fmt.Errorf("%w: this program cannot start workers", explorer.ErrUnsupported)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &localWorkers{cancel: cancel, alive: n, notes: note, fail: fail}
	gpus := visibleGPUs(spec.Device)
	for i := range n {
		p := workerProcess{engine: e, settings: with, spec: spec, address: a, shared: shared, name: fmt.Sprintf("local-%d", i+1), of: n, only: only}
		if len(gpus) > 0 {
			p.gpu = gpus[i%len(gpus)]
		}
		l.ended.Go(func() { l.keep(ctx, p) })
	}
	return l, nil
}

// keep runs a worker, again when it ends unexpectedly.
func (l *localWorkers) keep(ctx context.Context, p workerProcess) {
	var err error
	for range workerRestarts {
		err = p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil { // drained
			break
		}
		l.notes(fmt.Sprintf("worker %s ended: %v", p.name, err))
		if errors.Is(err, errRefusedWorker) {
			break
		}
	}
	l.mu.Lock()
	l.alive--
	none := l.alive == 0
	l.mu.Unlock()
	if none && p.only { // on a server elsewhere, others may come
		l.fail(fmt.Errorf("there are no workers left: %w", cmp.Or(err, errors.New("all were drained"))))
	}
}

// visibleGPUs lists what CUDA_VISIBLE_DEVICES may be for one GPU, one for each; none where workers compute on the processor.
func visibleGPUs(device string) []string {
	if device != "cuda" {
		return nil
	}
	if list := os.Getenv("CUDA_VISIBLE_DEVICES"); list != "" {
		return strings.Split(list, ",")
	}
	found, _ := filepath.Glob("/dev/nvidia[0-9]*")
	out := make([]string, len(found))
	for i := range found {
		out[i] = fmt.Sprint(i)
	}
	return out
}
