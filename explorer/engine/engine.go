package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/llamaserver"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/algebra"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// Options are the settings of New. The zero value selects the best device.
type Options struct {
	Compute string // what decoder.OpenDevice takes: "", "go", "xla", "cuda", "xla:/path/plugin.so"
	Text    string // the text explorer.TextWiki, which is measured on where none is named; "" for none
	Web     string // the text explorer.TextWeb, with what is left to tests at its start; "" for none
	Code    string // the text explorer.TextCode; "" for none
	// Conversation is how many tokens of explorer.TextChat a model writes, 0 for none, and Conversations the folder that they are kept
	// in; "" keeps them for as long as the model is open.
	Conversation  int
	Conversations string
	Scratch       string // folder for files that need not last; "" is the system's temporary folder
	// Spill is how many bytes of the hidden states of calibration text are held in memory, the rest being in a temporary
	// file, and apart from that of the inputs of a matrix, the rest of which is recomputed; 0 is the decoder's default.
	Spill int64
	// Weights is how many bytes of the weights that computations run on are held in memory, on the device where that has its
	// own; what is left of them is read from the model's file when it is needed. 0 is half of what is free when the model is
	// first computed with, all on a device with memory of its own.
	Weights int64
	// Algebra is what computes the linear algebra of re-fits: AlgebraAuto (also for ""), AlgebraGo or AlgebraXLA.
	Algebra string
	// Half has the device hold matrices as bfloat16. AtOnce is how many calibration windows a graph computes at once; 0 is one on a
	// processor, and on a GPU as many as its free memory permits.
	Half   bool
	AtOnce int
	LogDir string // where the engine's log goes; "" is the system's temporary folder
	// GPU is how many layers of models run on GPUs in chats, benchmarks and evaluations that ask for as many as fit:
	// infer.GPUOff, infer.GPUAuto (also for "") or a number. Off keeps computations off GPUs too, unless Compute names one.
	GPU   string
	Cache string // lathe's cache folder, where `make gpu` puts GPU libraries; "" is none
	// Runner is what runs models in chats, benchmarks and the HTTP endpoint: "" for the built-in llama.cpp, or what llamaserver.Parse
	// takes. RunnerKey is the key of a llama-server that runs, Report is called with a line about what runs on the built-in one instead.
	Runner, RunnerKey string
	Report            func(line string)
	// Version identifies this program to workers, which must be of the same version; it may take a moment. Worker is the command that
	// starts a worker, without its flags; none if searches cannot start workers. NATSUser and NATSPassword are what a NATS server is sent, "" for none.
	Version                func() string
	Worker                 []string
	NATSUser, NATSPassword string
}

// Engine is an [explorer.Backend]. It may be used from any goroutine.
type Engine struct {
	options   Options
	runtime   *llamacpp.Engine
	runner    infer.Engine                               // of chats, benchmarks and the endpoint: runtime, or a llama-server
	libraries llamacpp.Options                           // of runtime
	layers    atomic.Int64                               // of Options.GPU
	threads   atomic.Int64                               // of models whose settings leave them open; 0 leaves them to the engine
	open      func(spec string) (*decoder.Device, error) // opens the device: decoder.OpenDevice
	// time measures times per token: measureTimes.
	time func(ctx context.Context, m *model, typ string, mon explorer.Monitor) (search.Times, error)
}

var _ explorer.Backend = (*Engine)(nil)

// New makes an engine. It starts and loads nothing.
func New(o Options) (*Engine, error) {
	layers, err := infer.ParseGPU(o.GPU)
	if err != nil {
		return nil, fmt.Errorf("GPU: %w", err)
	}
	run := llamacpp.Options{LogDir: o.LogDir}
	folder, err := llamacpp.FindLibraries(o.Cache)
	if err != nil {
		run.NoLibraries = format.Error(err)
	} else {
		run.Libraries = folder
	}
	runtime, err := llamacpp.New(run)
	if err != nil {
		return nil, err
	}
	e := &Engine{options: o, runtime: runtime, runner: runtime, libraries: run, open: decoder.OpenDevice, time: measureTimes}
	server, ok, err := llamaserver.Parse(o.Runner)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if ok {
		server.Key, server.Fallback, server.Report, server.LogDir = o.RunnerKey, runtime, o.Report, o.LogDir
		e.runner = llamaserver.New(server)
	}
	e.layers.Store(int64(layers))
	return e, nil
}

// run loads a file in an engine. A load that asks for as many layers on GPUs as fit has as many as the setting permits.
func (e *Engine) run(ctx context.Context, on infer.Engine, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	if o.GPULayers == infer.AllLayers {
		o.GPULayers = int(e.layers.Load())
	}
	if o.Threads == 0 {
		o.Threads = int(e.threads.Load())
	}
	return on.Load(ctx, o, progress)
}

// runnerName is what runs models, wherever it is.
func (e *Engine) runnerName() string {
	if e.runner == e.runtime {
		return explorer.EngineLlama
	}
	return llamaserver.Command
}

// version identifies the program to workers.
func (e *Engine) version() string {
	if e.options.Version == nil {
		return ""
	}
	return e.options.Version()
}

// device returns what decoder.OpenDevice takes: no GPU with --gpu off, unless one is named.
func (e *Engine) device() string {
	named := e.options.Compute
	if named == "" {
		named = os.Getenv(decoder.DeviceEnv)
	}
	if e.layers.Load() == 0 && (named == "" || named == "auto") {
		return "cpu"
	}
	return e.options.Compute
}

// The values of [Options].Algebra: the device where that is a GPU and the processor elsewhere, the processor's kernels, or XLA on the
// device whatever that is.
const (
	AlgebraAuto = "auto"
	AlgebraGo   = "go"
	AlgebraXLA  = "xla"
)

// Algebras lists the values of [Options].Algebra.
func Algebras() []string { return []string{AlgebraAuto, AlgebraGo, AlgebraXLA} }

// openDevice opens the device that computes with the model.
func (m *model) openDevice() (*decoder.Device, error) {
	m.mu.Lock()
	processor := m.processor
	m.mu.Unlock()
	if processor {
		return m.engine.openDevice("cpu")
	}
	return m.engine.openDevice(m.engine.device())
}

// openDevice opens a device, set as the options require.
func (e *Engine) openDevice(spec string) (*decoder.Device, error) {
	device, err := e.open(spec)
	if err != nil {
		return nil, err
	}
	switch e.options.Algebra {
	case AlgebraGo:
		err = device.SetAlgebra(false)
	case AlgebraXLA:
		err = device.SetAlgebra(true)
	}
	if err != nil {
		device.Close()
		return nil, err
	}
	return device, nil
}

// Close ends the child processes.
func (e *Engine) Close() error {
	if e.runner == e.runtime {
		return e.runtime.Close()
	}
	return errors.Join(e.runner.Close(), e.runtime.Close())
}

// Open implements [explorer.Backend].
func (e *Engine) Open(ctx context.Context, path string) (explorer.Model, error) {
	file, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := describe(file)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	info.Engine = e.runner.Name()
	if family, _ := subnet.FamilyOf(info.Arch); !family.Runs {
		info.NoRuntime = fmt.Sprintf("llama.cpp has no runtime for %s: such models can be searched, cut, re-fitted and scored, not run", strings.ToUpper(info.Arch))
	}
	return &model{engine: e, settings: e.settings(), file: file, info: info, prices: prices{files: info.Files}, tokens: make(map[tokenKey][]int32)}, nil
}

// model is an opened model. What computes is loaded when it is first needed.
type model struct {
	engine *Engine
	file   *gguf.File
	info   explorer.ModelInfo // but for Compute

	loaded     lazy[loaded]
	written    lazy[[]string]        // conversations
	vocabulary lazy[*scratch.Folder] // folder of the vocabulary's file, for a model without a runtime
	prices     prices
	statistics atomic.Pointer[oneshot.Statistics] // those gathered or recalled last; nil before

	mu             sync.Mutex // guards what follows; never held over I/O or a call of the device
	compute        string     // the device, once it is open
	algebra        string     // what computes linear algebra, likewise
	gpu, processor bool       // it is a GPU; it must be none any more
	settings       settings   // what it is loaded with
	reloads        int        // how often it was closed to be loaded in another way
	computations   int        // that have not ended, those of paused jobs too
	tokens         map[tokenKey][]int32
	levels         *levels.Store // of the newest search
}

// loaded is a model whose weights are at hand, on the device that computes.
type loaded struct {
	device *decoder.Device
	model  *decoder.Model
}

var _ explorer.Model = (*model)(nil)

// Info implements [explorer.Model].
func (m *model) Info() explorer.ModelInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := m.info
	info.Compute, info.Algebra = m.compute, m.algebra
	info.GPU = infer.FormatGPU(int(m.engine.layers.Load()))
	return info
}

// SHA256 implements [explorer.Model].
func (m *model) SHA256(ctx context.Context) (string, error) { return m.file.SHA256(ctx) }

// Close implements [explorer.Model].
func (m *model) Close() error {
	if l, ok := m.loaded.reset(); ok {
		l.model.Close()
		l.device.Close()
	}
	var err error
	m.mu.Lock()
	store := m.levels
	m.levels = nil
	m.mu.Unlock()
	if store != nil {
		err = store.Close()
	}
	if folder, ok := m.vocabulary.reset(); ok {
		err = errors.Join(err, folder.Remove())
	}
	return errors.Join(err, m.file.Close())
}

// weights returns the model loaded for computing. The first call opens the device and loads it, which takes seconds.
func (m *model) weights(ctx context.Context) (*decoder.Model, error) {
	l, err := m.loaded.get(ctx, m.load)
	return l.model, err
}

func (m *model) load(ctx context.Context) (loaded, error) {
	device, err := m.openDevice()
	if errors.Is(err, decoder.ErrNoDevice) {
		err = fmt.Errorf("%w: %w", explorer.ErrUnsupported, err)
	}
	if err != nil {
		return loaded{}, err
	}
	weights, err := m.decode(ctx, device, m.file)
	if err != nil {
		device.Close()
		return loaded{}, err
	}
	m.mu.Lock()
	m.gpu = onGPU(device)
	m.compute, m.algebra = device.Description(), algebra.Of(device).Name()
	m.mu.Unlock()
	return loaded{device, weights}, nil
}

// decode loads a file for computing with the model's settings.
func (m *model) decode(ctx context.Context, device *decoder.Device, f *gguf.File, more ...decoder.Option) (*decoder.Model, error) {
	return m.engine.decode(ctx, device, f, append(more, m.loadedWith().options(ctx, device)...)...)
}

// decode loads a file for computing, within the limits of memory.
func (e *Engine) decode(ctx context.Context, backend *decoder.Device, f *gguf.File, more ...decoder.Option) (*decoder.Model, error) {
	o := e.options
	if o.Spill == 0 {
		o.Spill = decoder.DefaultMemory
	}
	more = append(more, decoder.WithMemory(o.Spill, o.Scratch), decoder.WithWeights(e.weightLimit(backend)))
	return decoder.Load(ctx, backend, f, more...)
}

// weightLimit is how many bytes of weights stay in memory, 0 for all.
func (e *Engine) weightLimit(backend *decoder.Device) int64 {
	switch {
	case e.options.Weights > 0:
		return e.options.Weights
	case onGPU(backend):
		return 0
	}
	return DefaultWeights()
}

// DefaultWeights is the default of [Options].Weights where computations run in the machine's own memory, 0 where it is not
// known how much is free.
func DefaultWeights() int64 { return memory.Free() / 2 }

// describe returns the properties of a model from its file's header.
func describe(f *gguf.File) (explorer.ModelInfo, error) {
	config, err := f.Config()
	if err != nil {
		return explorer.ModelInfo{}, err
	}
	g := config.Geometry()
	if err := g.Validate(); err != nil {
		return explorer.ModelInfo{}, fmt.Errorf("%s: %w: %w", f.Path(), gguf.ErrFormat, err)
	}
	kv := f.KV()
	info := explorer.ModelInfo{
		Path: f.Path(), Name: config.Name, Arch: config.Arch, Bytes: f.Size(), BlockParams: g.BlockParams(), Layers: len(g.Layers), Hidden: config.Hidden,
		Context: config.Context, Vocab: config.Vocab, Tied: config.Tied, ChatTemplate: kv.Has("tokenizer.chat_template"), Geometry: &g,
	}
	if info.Name == "" {
		info.Name = strings.TrimSuffix(filepath.Base(f.Path()), ".gguf")
	}
	info.Name = explorer.CleanName(info.Name)
	if err := kv.TrimsVocabulary(); err != nil {
		info.WholeVocab = err.Error()
	}
	info.SubnetOf, _ = kv.String("general.lathe.source")
	info.Share, _ = kv.Float("general.lathe.ratio")
	weight := make(map[gguf.Type]int64)
	for _, t := range f.Tensors() {
		weight[t.Type] += t.Elements()
		info.Params += t.Elements()
	}
	var types []gguf.Type
	for t := range weight {
		types = append(types, t)
	}
	slices.SortFunc(types, func(a, b gguf.Type) int { return cmp.Or(cmp.Compare(weight[b], weight[a]), cmp.Compare(a, b)) })
	if len(types) > 0 {
		info.FileType = types[0].String()
	}
	info.TypeName = f.TypeName()
	sizes, err := gguf.NewSizes(f)
	if err != nil {
		return info, err
	}
	info.Files = sizes
	info.Fingerprint, err = fingerprint(f)
	return info, err
}

// fingerprint identifies a model by the names and shapes of its tensors, its size and the content of its small tensors, the
// norms: good enough to tell models of one family apart at once, where a hash of the whole file would take seconds. It
// proves no integrity.
func fingerprint(f *gguf.File) (string, error) {
	const small, most = 1 << 16, 4 << 20 // bytes: of a tensor that is read, of all that are
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", f.Size())
	var read int64
	for _, t := range f.Tensors() {
		fmt.Fprintf(h, "%s %v %v\n", t.Name, t.Type, t.Dims)
		if t.Size > small || read+t.Size > most {
			continue
		}
		data, err := f.Read(t.Name)
		if err != nil {
			return "", err
		}
		read += t.Size
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Load implements [explorer.Runner].
func (m *model) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	if err := m.info.Runs(); err != nil {
		return nil, err
	}
	return m.engine.run(ctx, m.engine.runner, o, progress)
}

// geometry is the shape of the dense model.
func (m *model) geometry() *subnet.Geometry { return m.info.Geometry }
