package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/shipped"
	"github.com/lathe-llm/lathe/reform/algebra"
)

// State of a check.
type State string

// The states of a check.
const (
	Works   State = "ok"
	Missing State = "missing" // not found, and something is slower or does not work without it
	Broken  State = "broken"  // found, and does not work
	Absent  State = "absent"  // not found, and not needed
)

// A Check is the state of one component.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Found string `json:"found,omitempty"` // what was found, and where
	Used  string `json:"used,omitempty"`  // what it is used for, or the substitute
	Get   string `json:"get,omitempty"`   // how to get it
}

// Places are the paths that are checked.
type Places struct {
	Cache string // folder of downloads
	Model string // default model
}

// Diagnose checks everything that lathe can use.
func (e *Engine) Diagnose(ctx context.Context, p Places) []Check {
	checks := []Check{e.machine(ctx), folder(p.Cache)}
	checks = append(checks, defaultModel(p.Model), text("calibration text", e.options.Text), text("web text", e.options.Web))
	checks = append(checks, e.compute()...)
	checks = append(checks, e.runs(ctx)...)
	return checks
}

// machine describes the machine.
func (e *Engine) machine(ctx context.Context) Check {
	c := Check{Name: "machine", State: Works, Found: fmt.Sprintf("%s/%s, %s (%d physical)", runtime.GOOS, runtime.GOARCH, format.Counted(runtime.NumCPU(), "core"), llamacpp.PhysicalCores())}
	devices, err := e.runtime.Devices(ctx)
	if err != nil {
		return c
	}
	for _, d := range devices {
		if !d.GPU {
			c.Found += fmt.Sprintf(", %s of memory", format.Bytes(d.Total))
			if free := memory.Free(); free > 0 { // llama.cpp counts all of it as free
				c.Found += fmt.Sprintf(", %s free", format.Bytes(free))
			}
			break
		}
	}
	return c
}

// folder checks that a folder can be written to, and reports the free space of its disk.
func folder(path string) Check {
	c := Check{Name: "cache folder", State: Works, Found: path, Used: "default model, texts, plug-ins"}
	if err := os.MkdirAll(path, 0o755); err != nil {
		c.State, c.Get = Broken, "set LATHE_CACHE to a folder that can be written to"
		c.Found = format.Error(err)
		return c
	}
	probe, err := durable.Create(filepath.Join(path, "probe"), 0o600)
	if err != nil {
		c.State, c.Get = Broken, "set LATHE_CACHE to a folder that can be written to"
		c.Found = format.Error(err)
		return c
	}
	if err := probe.Close(); err != nil {
		c.Found = format.Error(err)
		return c
	}
	if free, ok := freeBytes(path); ok {
		c.Found += fmt.Sprintf(" (%s free)", format.Bytes(free))
	}
	return c
}

// HowToGetAModel returns what somebody can do who has no model: an unpacked archive has no make.
func HowToGetAModel() string {
	if shipped.Dir() != "" {
		return "name a GGUF file, or a model of the Hugging Face hub: lathe HuggingFaceTB/SmolLM2-135M-Instruct"
	}
	return "run `make setup`, or name a GGUF file"
}

func defaultModel(path string) Check {
	c := Check{Name: "default model", Found: path, Used: "where no model is named"}
	f, err := gguf.Open(path)
	if err != nil {
		c.State, c.Found, c.Get = Missing, format.Error(err), HowToGetAModel()
		return c
	}
	defer func() { _ = f.Close() }() // only read from
	if _, err := f.Config(); err != nil {
		c.State, c.Found = Broken, format.Error(err)
		return c
	}
	c.State = Works
	return c
}

func text(name, path string) Check {
	c := Check{Name: name, Used: "statistics and re-fitting where no text is named"}
	if path == "" {
		c.State, c.Get = Missing, "run `make setup`, or name one with --text"
		return c
	}
	info, err := os.Stat(path)
	if err != nil {
		c.State, c.Found, c.Get = Missing, format.Error(err), "run `make setup`, or name one with --text"
		return c
	}
	c.State, c.Found = Works, fmt.Sprintf("%s (%s)", path, format.Bytes(info.Size()))
	return c
}

// compute reports the device that search and re-fitting compute on.
func (e *Engine) compute() []Check {
	c := Check{Name: "compute", Used: "search, statistics and re-fitting"}
	backend, err := e.openDevice(e.device())
	if err != nil {
		c.State, c.Found = Broken, format.Error(err)
		return []Check{c}
	}
	defer backend.Close()
	c.State, c.Found = Works, backend.Description()
	if e.options.Half {
		c.Found += ", weights as bf16"
	}
	if backend.Name() == "go" {
		c.State, c.Get = Missing, "the Go device is several times slower than XLA: run `make setup` to fetch the XLA plug-in"
	}
	by := Check{Name: "linear algebra", State: Works, Found: "the kernels of this program, on the processor (go)", Used: "choosing units and re-fitting: factors, solutions, ADMM"}
	if algebra.Of(backend).Name() == AlgebraXLA {
		by.Found = "XLA in 64 bits, on the device of compute (xla)"
	}
	checks := []Check{c, by}
	for _, note := range backend.Notes() {
		checks = append(checks, Check{Name: "compute, skipped", State: Absent, Found: note})
	}
	return checks
}

// runs reports what chat and benchmarks run on.
func (e *Engine) runs(ctx context.Context) []Check {
	c := Check{Name: "engine", Used: "chat, benchmarks and perplexity of written files"}
	devices, failed, err := e.runtime.Probe(ctx)
	if err != nil {
		c.State, c.Found, c.Get = Broken, format.Error(err), "build with cgo and a C++ compiler: `make build`"
		return []Check{c}
	}
	var names []string
	for _, d := range devices {
		names = append(names, fmt.Sprintf("%s (%s)", d.Name, strings.TrimSpace(d.Description)))
	}
	c.State, c.Found = Works, e.runtime.Name()+" on "+strings.Join(names, ", ")
	return append([]Check{c}, e.gpus(devices, failed, cards("/sys/class/drm"))...)
}
