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
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// DeviceEnv is the environment variable that chooses the device where no other is asked for.
const DeviceEnv = "LATHE_BACKEND"

var (
	// ErrClosed is returned by every use of a device, model or subnet after its Close.
	ErrClosed = errors.New("decoder: use after close")

	// ErrNoDevice is returned by OpenDevice where this machine lacks the device asked for.
	ErrNoDevice = errors.New("decoder: device not available")
)

// Device runs computation graphs on one device, one at a time. It caches each compiled graph by what it computes
// and by the shapes of its inputs.
type Device struct {
	compute compute.Backend
	name    string
	plugin  string   // path of the PJRT plugin, "" for the Go backend
	notes   []string // why better devices were passed over

	mu       sync.Mutex // held while a graph or a program compiles or runs
	execs    map[string]*graph.Exec
	client   client // runs programs, nil where there is none
	programs map[string]executable
	algebra  bool  // see Algebra
	heap     *heap // nil where buffers are elsewhere
	closed   bool
}

// OpenDevice opens the device named by spec:
//
//	go           GoMLX's Go backend, always available
//	cpu          the first that opens of xla and go
//	xla          XLA on the CPU, with the plugin that is found
//	cuda         XLA on an NVIDIA GPU, with the plugin of an installed JAX
//	xla:/abs.so  XLA with the plugin at that path; options may follow, as in xla:/abs.so,tf32=false
//	             (products on a GPU are rounded to TF32 otherwise)
//	auto or ""   the environment variable LATHE_BACKEND where set; else the first that opens of cuda (where a GPU is
//	             found), xla and go
//
// A device asked for by name that is missing gives ErrNoDevice, with what would provide it.
func OpenDevice(spec string) (*Device, error) {
	if spec == "" {
		spec = os.Getenv(DeviceEnv)
	}
	switch {
	case spec == "" || spec == "auto":
		return openFirst(cudaPlugins(), hasNVIDIA())
	case spec == "cpu":
		return openFirst(nil, false)
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
		return nil, fmt.Errorf("decoder: unknown device %q: want auto, cpu, go, xla, cuda or xla:/path/to/plugin.so", spec)
	}
}

// openFirst opens the first device that works, GPUs before the CPU, and notes why those before it did not. cuda are the plugins for NVIDIA's
// GPUs, which are opened if the system has one.
func openFirst(cuda []string, gpu bool) (*Device, error) {
	var notes []string
	switch {
	case gpu:
		b, err := openPlugin("cuda", cuda)
		if err == nil {
			return b, nil
		}
		notes = append(notes, err.Error())
	case len(cuda) > 0:
		notes = append(notes, fmt.Sprintf("decoder: %s: not opened, since there is no NVIDIA GPU in /dev: is its driver loaded?", cuda[0]))
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
func openPlugin(kind string, paths []string) (*Device, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: no %s plugin was found (%s)", ErrNoDevice, kind, pluginHint(kind))
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

// openGo opens the Go backend. Operations run one after another, each on all cores: two that share the pool of workers
// can deadlock.
func openGo() (*Device, error) {
	dev, err := gobackend.New("ops_sequential")
	if err != nil {
		return nil, fmt.Errorf("decoder: open the Go backend: %w", err)
	}
	return NewDevice(dev, "go", ""), nil
}

// NewDevice makes a device of a backend of GoMLX, with the name of its kind ("go", "xla" or "cuda") and the path of its plugin, "" for
// none. The device owns the backend.
func NewDevice(dev compute.Backend, name, plugin string) *Device {
	d := &Device{compute: dev, name: name, plugin: plugin, execs: make(map[string]*graph.Exec), client: clientOf(dev)}
	d.algebra = name == "cuda" && d.RunsPrograms()
	return d
}

// Name returns "go", "xla" or "cuda".
func (d *Device) Name() string { return d.name }

// Notes returns, one line each, why devices that would have come first were passed over.
func (d *Device) Notes() []string { return d.notes }

// Algebra reports whether the linear algebra of re-fits is to run on the device, as programs in 64-bit floats. It is by default on GPUs:
// XLA on a processor is slower at it than the kernels of package linalg.
func (d *Device) Algebra() bool { return d.algebra }

// SetAlgebra sets what Algebra reports, before the device is used. Devices without XLA run no programs, which is ErrNoDevice.
func (d *Device) SetAlgebra(on bool) error {
	if on && !d.RunsPrograms() {
		return fmt.Errorf("%w: linear algebra on a device needs XLA, and this one is %s", ErrNoDevice, d.name)
	}
	d.algebra = on
	return nil
}

// Description returns one line to show: what computes, and the plugin that it is loaded from.
func (d *Device) Description() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.name + " (closed)"
	}
	if d.plugin == "" {
		return "GoMLX Go backend (CPU)"
	}
	return fmt.Sprintf("XLA %s, %s", d.compute.DeviceDescription(0), d.plugin)
}

// Close frees every compiled graph and the device. Models on the device must be closed before.
func (d *Device) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	for _, e := range d.execs {
		e.Finalize()
	}
	for _, p := range d.programs {
		p.free()
	}
	d.execs, d.programs = nil, nil
	d.compute.Finalize()
}

// shared reports whether device memory is host memory, so that reading a tensor copies nothing.
func (d *Device) shared() bool { return d.compute.HasSharedBuffers() }

// run computes the graph named key on args. The key must contain everything the graph depends on except the shapes of its
// inputs; build is called once for each new combination of the two. Outputs belong to the caller, who must free them.
// This is the boundary at which GoMLX's panics become errors.
func (d *Device) run(ctx context.Context, key string, build func(in []*graph.Node) []*graph.Node, args ...*tensors.Tensor) (out []*tensors.Tensor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, failed(key, fmt.Errorf("%v", r))
		}
	}()
	exec := d.execs[key]
	if exec == nil {
		exec, err = graph.NewExec(d.compute, func(in []*graph.Node) []*graph.Node { return build(widened(in)) })
		if err != nil {
			return nil, fmt.Errorf("decoder: %s: %w", key, err)
		}
		exec.WithName(key).SetMaxCache(-1)
		d.execs[key] = exec
	}
	in := make([]any, len(args))
	for i, a := range args {
		in[i] = a
	}
	if d.heap != nil {
		d.heap.grown()
	}
	out, err = exec.Call(in...)
	if err != nil {
		return nil, failed(key, err)
	}
	return out, nil
}

// widened returns the inputs of a graph with weights that are stored as bfloat16 as 32-bit floats.
func widened(in []*graph.Node) []*graph.Node {
	out := make([]*graph.Node, len(in))
	for i, n := range in {
		if out[i] = n; n.DType() == dtypes.BFloat16 {
			out[i] = graph.ConvertDType(n, dtypes.Float32)
		}
	}
	return out
}

// run1 is run for a graph of one output.
func (d *Device) run1(ctx context.Context, key string, build func(in []*graph.Node) *graph.Node, args ...*tensors.Tensor) (*tensors.Tensor, error) {
	out, err := d.run(ctx, key, func(in []*graph.Node) []*graph.Node { return []*graph.Node{build(in)} }, args...)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// upload makes a device tensor of 32-bit floats. The data is copied.
func (d *Device) upload(data []float32, dims ...int) (*tensors.Tensor, error) {
	return uploadAs(d, dtypes.Float32, data, dims...)
}

// uploadInts makes a device tensor of 32-bit integers. The data is copied.
func (d *Device) uploadInts(data []int32, dims ...int) (*tensors.Tensor, error) {
	return uploadAs(d, dtypes.Int32, data, dims...)
}

func uploadAs[T float32 | int32 | bfloat16.BFloat16](d *Device, dtype dtypes.DType, data []T, dims ...int) (t *tensors.Tensor, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, failed(fmt.Sprintf("copy %v to the device", dims), fmt.Errorf("%v", r))
		}
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	t, err = tensors.FromRaw(d.compute, 0, shapes.Make(dtype, dims...), dtypes.UnsafeByteSlice(data))
	if err != nil {
		return nil, failed(fmt.Sprintf("copy %v to the device", dims), err)
	}
	return t, nil
}

// create makes a device tensor of 32-bit floats that fill writes, in place where device memory is host memory.
func (d *Device) create(fill func(to []float32) error, dims ...int) (*tensors.Tensor, error) {
	if !d.shared() {
		data := make([]float32, shapes.Make(dtypes.Float32, dims...).Size())
		if err := fill(data); err != nil {
			return nil, err
		}
		return d.upload(data, dims...)
	}
	t, err := d.allocate(dims)
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
func (d *Device) allocate(dims []int) (t *tensors.Tensor, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, failed(fmt.Sprintf("allocate %v", dims), fmt.Errorf("%v", r))
		}
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	t, err = tensors.FromShapeForBackend(d.compute, 0, shapes.Make(dtypes.Float32, dims...))
	if err != nil {
		return nil, failed(fmt.Sprintf("allocate %v", dims), err)
	}
	return t, nil
}

// isClosed reports whether Close was called.
func (d *Device) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// read calls use with the tensor's data, which is valid during the call only and must not be modified.
func (d *Device) read(t *tensors.Tensor, use func(data []float32)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decoder: read from the device: %v", r)
		}
	}()
	if t.DType() == dtypes.BFloat16 {
		return readAs(d, t, func(data []bfloat16.BFloat16) {
			wide := make([]float32, len(data))
			for i, v := range data {
				wide[i] = v.Float32()
			}
			use(wide)
		})
	}
	return readAs(d, t, use)
}

func readAs[T float32 | bfloat16.BFloat16](d *Device, t *tensors.Tensor, use func(data []T)) error {
	if d.shared() {
		return tensors.ConstFlatData(t, use)
	}
	// A tensor read in place would keep its host copy, so the copy is made of the buffer.
	data := make([]T, t.Size())
	buf, err := t.Buffer(d.compute, 0)
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
func (d *Device) fetch(t *tensors.Tensor) ([]float32, error) {
	var out []float32
	err := d.read(t, func(data []float32) { out = append(make([]float32, 0, len(data)), data...) })
	return out, err
}

// free releases the memory of tensors; nil ones are skipped. A failure to free leaks memory and nothing else, and
// happens only on a device that fails every later call too, so it is not reported here.
func free(ts ...*tensors.Tensor) {
	for _, t := range ts {
		if t != nil {
			_ = t.FinalizeAll()
		}
	}
}

// memory is the memory of a device, for package weights.
type memory struct{ d *Device }

func (m memory) Create(half bool, fill func(to []float32) error, dims ...int) (*tensors.Tensor, error) {
	if !half {
		return m.d.create(fill, dims...)
	}
	data := make([]float32, shapes.Make(dtypes.Float32, dims...).Size())
	if err := fill(data); err != nil {
		return nil, err
	}
	return m.Upload(true, data, dims...)
}

func (m memory) Upload(half bool, data []float32, dims ...int) (*tensors.Tensor, error) {
	if half {
		return uploadAs(m.d, dtypes.BFloat16, bfloat16.FromFloat32s(data...), dims...)
	}
	return m.d.upload(data, dims...)
}

func (m memory) Read(t *tensors.Tensor, use func(data []float32)) error { return m.d.read(t, use) }
