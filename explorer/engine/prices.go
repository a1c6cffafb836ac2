package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamacpp"
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
