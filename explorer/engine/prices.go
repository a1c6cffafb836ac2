package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// prices implements [search.Prices] for one model.
type prices struct {
	files explorer.FileSizes

	mu    sync.Mutex // guards times
	times map[string]*search.Times
}

func (p *prices) Bytes(m subnet.Masks, typ string) (file, tensors int64, err error) {
	size, err := p.files.Of(m, gguf.Refitted{Outputs: true}, typ)
	return size.File, size.Tensors, err
}

func (p *prices) Seconds(m subnet.Masks, typ string) (float64, bool) {
	t := p.timed(typ)
	if t == nil {
		return 0, false
	}
	return t.Seconds(m), true
}

// timed returns the times of a type, nil where none are known.
func (p *prices) timed(typ string) *search.Times {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times[typ]
}

func (p *prices) add(t search.Times) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = make(map[string]*search.Times)
	}
	p.times[t.Type] = &t
}

// Prices implements [explorer.Searcher].
func (m *model) Prices(ctx context.Context, t search.Target, dir string, mon explorer.Monitor) (search.Prices, error) {
	if !t.Timed() || m.prices.timed(t.Type) != nil {
		return &m.prices, nil
	}
	if err := m.info.Runs(); err != nil {
		return nil, err
	}
	machine, err := m.engine.identity(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := readTimes(dir)
	if err != nil {
		mon.Note(fmt.Sprintf("times are measured again: %v", err))
	}
	mine := func(k search.Times) bool {
		return k.Type == t.Type && k.Model == m.info.Fingerprint && k.Machine == machine && k.Valid()
	}
	if i := slices.IndexFunc(kept, mine); i >= 0 {
		m.prices.add(kept[i])
		return &m.prices, nil
	}
	if slices.ContainsFunc(kept, func(k search.Times) bool { return k.Machine != machine }) {
		mon.Note("the times per token were measured on another machine, so they are measured again")
	}
	times, err := m.engine.time(ctx, m, t.Type, mon)
	if err != nil {
		return nil, err
	}
	times.Machine, times.Model, times.Type, times.At = machine, m.info.Fingerprint, t.Type, time.Now().UTC()
	m.prices.add(times)
	return &m.prices, mon.Persist(ctx, func() error { return writeTimes(dir, kept, times) })
}

// identity identifies what generates tokens: the machine with its processor and GPUs, and the engine.
func (e *Engine) identity(ctx context.Context) (string, error) {
	devices, err := e.runtime.Devices(ctx)
	if err != nil {
		return "", err
	}
	host, _ := os.Hostname() // the other facts still tell machines apart
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s %s\n%d cores\n%s\n%s\n", host, runtime.GOOS, runtime.GOARCH, llamacpp.PhysicalCores(), processor(), e.runtime.Name())
	for _, d := range devices {
		fmt.Fprintf(h, "%s %v\n", d.Name, d.GPU)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// processor returns the name of the processor, "" where the system has no file with it.
func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// timesFile is the file, in the folder of searches, that times are kept in, and maxTimes how many of one model, the newest.
const (
	timesFile     = "times.json"
	maxTimes      = 16
	maxTimesBytes = 1 << 20
)

// readTimes reads the times that a folder has.
func readTimes(dir string) ([]search.Times, error) {
	if dir == "" {
		return nil, nil
	}
	path := filepath.Join(dir, timesFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxTimesBytes {
		err = fmt.Errorf("%s has %d bytes, %d are allowed", path, info.Size(), maxTimesBytes)
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var kept []search.Times
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return kept, nil
}

// writeTimes adds times to those of a folder, in place of older ones of the same machine and type.
func writeTimes(dir string, kept []search.Times, t search.Times) error {
	if dir == "" {
		return nil
	}
	kept = slices.DeleteFunc(kept, func(k search.Times) bool {
		return k.Machine == t.Machine && k.Model == t.Model && k.Type == t.Type
	})
	kept = append([]search.Times{t}, kept...)
	data, err := json.Marshal(kept[:min(len(kept), maxTimes)])
	if err == nil {
		err = durable.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, timesFile), data, 0o600)
}

const (
	// timedRounds is how often at most a cut and the dense model generate in turn, and timedRun for about how long each time. The fastest
	// run of each counts, since other work on the machine only makes runs slower; there is an end when steadyRounds have made neither
	// faster by more than a share of steady.
	timedRounds  = 10
	steadyRounds = 2
	steady       = 0.01
	timedRun     = 250 * time.Millisecond
	timedMost    = 64 // tokens in one run
)

// measureTimes measures the times per token with matrices of a type.
func measureTimes(ctx context.Context, m *model, typ string, mon explorer.Monitor) (_ search.Times, err error) {
	folder, err := scratch.New(m.engine.options.Scratch, "times")
	if err != nil {
		return search.Times{}, err
	}
	defer func() { err = errors.Join(err, folder.Remove()) }()
	load := func(s subnet.Masks, name string) (infer.Model, error) {
		path := folder.Join(name)
		err := mon.Persist(ctx, func() error {
			_, err := gguf.WriteSubnet(ctx, m.file, path, gguf.Subnet{Masks: s}, gguf.WriteOptions{Type: typ})
			return err
		})
		if err != nil {
			return nil, err
		}
		o := infer.Defaults(path)
		o.Context = 2 * timedMost
		return m.engine.runtime.Load(ctx, o, nil)
	}
	step := "times per token: the dense model"
	mon.Progress(0, 0, "cuts", step)
	dense, err := load(subnet.Dense(m.geometry()), "dense.gguf")
	if err != nil {
		return search.Times{}, err
	}
	defer func() { err = errors.Join(err, dense.Close()) }()
	first, err := perToken(ctx, dense, 4)
	if err != nil {
		return search.Times{}, err
	}
	tokens := min(max(int(timedRun.Seconds()/first), 2), timedMost)
	bench := func(ctx context.Context, s subnet.Masks) (cutTime, denseTime float64, err error) {
		cut, err := load(s, "cut.gguf")
		if err != nil {
			return 0, 0, err
		}
		defer func() { err = errors.Join(err, cut.Close(), os.Remove(folder.Join("cut.gguf"))) }()
		cutTime, denseTime = math.Inf(1), math.Inf(1)
		same := 0 // rounds that made nothing faster
		for round := 0; round < timedRounds && same < steadyRounds; round++ {
			if err := mon.Gate(ctx); err != nil {
				return 0, 0, err
			}
			a, err := perToken(ctx, dense, tokens)
			if err != nil {
				return 0, 0, err
			}
			b, err := perToken(ctx, cut, tokens)
			if err != nil {
				return 0, 0, err
			}
			if same++; a < denseTime*(1-steady) || b < cutTime*(1-steady) {
				same = 0
			}
			denseTime, cutTime = min(denseTime, a), min(cutTime, b)
		}
		return cutTime, denseTime, nil
	}
	return search.MeasureTimes(ctx, m.geometry(), bench, func(done, total int) {
		mon.Progress(float64(done), float64(total), "cuts", fmt.Sprintf("times per token: cut %d of %d", done+1, total))
	})
}

// perToken returns the seconds in which a model generates one of so many tokens.
func perToken(ctx context.Context, m infer.Model, tokens int) (float64, error) {
	r, err := m.Bench(ctx, infer.BenchOptions{Gen: []int{tokens}, Repeats: 1})
	if err != nil {
		return 0, err
	}
	if len(r.Rows) == 0 || !(r.Rows[0].Mean() > 0) {
		return 0, errors.New("the engine measured no speed")
	}
	return 1 / r.Rows[0].Mean(), nil
}
