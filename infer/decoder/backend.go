package decoder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// BackendEnv names the environment variable that chooses the backend where none is named otherwise.
const BackendEnv = "LATHE_BACKEND"

var (
	// ErrClosed is returned by every use of a backend, model or subnet after its Close.
	ErrClosed = errors.New("decoder: use after close")

	// ErrNoBackend is returned by OpenBackend where the backend asked for is not on this machine.
	ErrNoBackend = errors.New("decoder: backend not available")
)

// Backend runs computation graphs on one device, one at a time. It caches each compiled graph by what it computes
// and by the shapes of its inputs.
type Backend struct {
	compute compute.Backend
	name    string
	plugin  string   // path of the PJRT plugin, "" for the Go backend
	notes   []string // why better backends were passed over

	mu     sync.Mutex // held while a graph compiles or runs
	execs  map[string]*graph.Exec
	heap   *heap // nil where buffers are elsewhere
	closed bool
}

// OpenBackend opens the backend that spec names:
//
//	go           GoMLX's Go backend, always there
//	xla          XLA on the CPU, with the plugin that is found
//	cuda         XLA on an NVIDIA GPU, with the plugin of an installed JAX
//	xla:/abs.so  XLA with the plugin at that path; options may follow, as in xla:/abs.so,tf32=false
//	             (products on a GPU are rounded to TF32 otherwise)
//	auto or ""   the environment variable LATHE_BACKEND where set; else the first that opens of cuda (where a GPU is
//	             found), xla and go
//
// A backend asked for by name that is missing is ErrNoBackend, with what would provide it.
func OpenBackend(spec string) (*Backend, error) {
	if spec == "" {
		spec = os.Getenv(BackendEnv)
	}
	switch {
	case spec == "" || spec == "auto":
		return openFirst()
	case spec == "go":
		return openGo()
	case spec == "xla":
		return openPlugin("xla", cpuPlugins())
	case spec == "cuda":
		return openPlugin("cuda", cudaPlugins())
	case strings.HasPrefix(spec, "xla:/"):
		path, options, _ := strings.Cut(strings.TrimPrefix(spec, "xla:"), ",")
		return openXLA(kindOfPlugin(path), path, options)
	default:
		return nil, fmt.Errorf("decoder: unknown backend %q: want auto, go, xla, cuda or xla:/path/to/plugin.so", spec)
	}
}

// openFirst opens the first backend that works, and keeps as notes why those before it did not.
func openFirst() (*Backend, error) {
	var notes []string
	if hasNVIDIA() {
		b, err := openPlugin("cuda", cudaPlugins())
		if err == nil {
			return b, nil
		}
		notes = append(notes, err.Error())
	}
	b, err := openPlugin("xla", cpuPlugins())
	if err != nil {
		notes = append(notes, err.Error())
		b, err = openGo()
	}
	if err != nil {
		return nil, err
	}
	b.notes = append(b.notes, notes...)
	return b, nil
}

// openPlugin opens the first plugin that loads; the error names all that did not.
func openPlugin(kind string, paths []string) (*Backend, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: no %s plugin was found (%s)", ErrNoBackend, kind, pluginHint(kind))
	}
	var errs []error
	for _, path := range paths {
		b, err := openXLA(kind, path, "")
		if err == nil {
			return b, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// openGo opens the Go backend. Operations run one after another, each on all cores: where two share the pool of workers
// they can each wait for the other for ever.
func openGo() (*Backend, error) {
	be, err := gobackend.New("ops_sequential")
	if err != nil {
		return nil, fmt.Errorf("decoder: open the Go backend: %w", err)
	}
	return newBackend(be, "go", ""), nil
}

func newBackend(be compute.Backend, name, plugin string) *Backend {
	return &Backend{compute: be, name: name, plugin: plugin, execs: make(map[string]*graph.Exec)}
}

// Name is "go", "xla" or "cuda".
func (b *Backend) Name() string { return b.name }

// Notes says, one line each, why backends that would have come first were passed over.
func (b *Backend) Notes() []string { return b.notes }

// Description is one line for a person: what runs and from where.
func (b *Backend) Description() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.name + " (closed)"
	}
	if b.plugin == "" {
		return "GoMLX Go backend (CPU)"
	}
	return fmt.Sprintf("XLA %s, %s", b.compute.DeviceDescription(0), b.plugin)
}

// Close frees every compiled graph and the device. Models of the backend must be closed before.
func (b *Backend) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	for _, e := range b.execs {
		e.Finalize()
	}
	b.execs = nil
	b.compute.Finalize()
}

// shared tells whether device memory is host memory, so that reading a tensor copies nothing.
func (b *Backend) shared() bool { return b.compute.HasSharedBuffers() }

// run computes the graph called key on args. The key must name everything the graph depends on but the shapes of its
// inputs; build is called once for each new combination of both. Outputs belong to the caller, who must free them.
// This is the boundary at which GoMLX's panics become errors.
func (b *Backend) run(ctx context.Context, key string, build func(in []*graph.Node) []*graph.Node, args ...*tensors.Tensor) (out []*tensors.Tensor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("decoder: %s: %v", key, r)
		}
	}()
	exec := b.execs[key]
	if exec == nil {
		exec, err = graph.NewExec(b.compute, build)
		if err != nil {
			return nil, fmt.Errorf("decoder: %s: %w", key, err)
		}
		exec.WithName(key).SetMaxCache(-1)
		b.execs[key] = exec
	}
	in := make([]any, len(args))
	for i, a := range args {
		in[i] = a
	}
	if b.heap != nil {
		b.heap.grown()
	}
	out, err = exec.Call(in...)
	if err != nil {
		return nil, fmt.Errorf("decoder: %s: %w", key, err)
	}
	return out, nil
}

// run1 is run for a graph of one output.
func (b *Backend) run1(ctx context.Context, key string, build func(in []*graph.Node) *graph.Node, args ...*tensors.Tensor) (*tensors.Tensor, error) {
	out, err := b.run(ctx, key, func(in []*graph.Node) []*graph.Node { return []*graph.Node{build(in)} }, args...)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// upload makes a device tensor of 32-bit floats. The data is copied.
func (b *Backend) upload(data []float32, dims ...int) (*tensors.Tensor, error) {
	return uploadAs(b, dtypes.Float32, data, dims...)
}

// uploadInts makes a device tensor of 32-bit integers. The data is copied.
func (b *Backend) uploadInts(data []int32, dims ...int) (*tensors.Tensor, error) {
	return uploadAs(b, dtypes.Int32, data, dims...)
}

func uploadAs[T float32 | int32](b *Backend, dtype dtypes.DType, data []T, dims ...int) (t *tensors.Tensor, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("decoder: copy %v to the device: %v", dims, r)
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	t, err = tensors.FromRaw(b.compute, 0, shapes.Make(dtype, dims...), dtypes.UnsafeByteSlice(data))
	if err != nil {
		return nil, fmt.Errorf("decoder: copy %v to the device: %w", dims, err)
	}
	return t, nil
}

// create makes a device tensor of 32-bit floats that fill writes: in place where device memory is host memory.
func (b *Backend) create(fill func(to []float32) error, dims ...int) (*tensors.Tensor, error) {
	if !b.shared() {
		data := make([]float32, shapes.Make(dtypes.Float32, dims...).Size())
		if err := fill(data); err != nil {
			return nil, err
		}
		return b.upload(data, dims...)
	}
	t, err := b.allocate(dims)
	if err != nil {
		return nil, err
	}
	var ferr error
	err = tensors.MutableFlatData(t, func(to []float32) { ferr = fill(to) })
	if err = errors.Join(err, ferr); err != nil {
		free(t)
		return nil, err
	}
	return t, nil
}

// allocate makes a tensor of zeros in memory that the device shares.
func (b *Backend) allocate(dims []int) (t *tensors.Tensor, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("decoder: allocate %v: %v", dims, r)
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	t, err = tensors.FromShapeForBackend(b.compute, 0, shapes.Make(dtypes.Float32, dims...))
	if err != nil {
		return nil, fmt.Errorf("decoder: allocate %v: %w", dims, err)
	}
	return t, nil
}

// isClosed tells whether the backend is of no more use.
func (b *Backend) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// read calls use with the tensor's data, which is valid during the call only and must not be changed.
func (b *Backend) read(t *tensors.Tensor, use func(data []float32)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decoder: read from the device: %v", r)
		}
	}()
	if b.shared() {
		return tensors.ConstFlatData(t, use)
	}
	// A tensor read in place would keep its host copy, so the copy is made of the buffer.
	data := make([]float32, t.Size())
	buf, err := t.Buffer(b.compute, 0)
	if err != nil {
		return fmt.Errorf("decoder: read from the device: %w", err)
	}
	if err := buf.ToFlatData(data); err != nil {
		return fmt.Errorf("decoder: read from the device: %w", err)
	}
	use(data)
	return nil
}

// fetch copies the tensor to the host.
func (b *Backend) fetch(t *tensors.Tensor) ([]float32, error) {
	var out []float32
	err := b.read(t, func(data []float32) { out = append(make([]float32, 0, len(data)), data...) })
	return out, err
}

// free gives back the memory of tensors; nil ones are skipped. A failure to free leaks memory and nothing else, and
// happens only on a device that fails every later call too, so it is not reported here.
func free(ts ...*tensors.Tensor) {
	for _, t := range ts {
		if t != nil {
			_ = t.FinalizeAll()
		}
	}
}
