package weights

import (
	"errors"
	"sync"

	"github.com/gomlx/gomlx/core/tensors"
)

// Weight is a tensor of a model or of a block, [out, in] or [n]. It is on the device while it is held, and after that
// until it is evicted.
type Weight struct {
	Dims []int
	// Stage is when a pass over the model needs it: 0 for the embedding, then layer by layer, the LM head last.
	Stage int
	// Load reads the numbers from the model's file; nil for gathered weights, which are spilled instead.
	Load func(to []float32) error
	// Half has the device hold the numbers as bfloat16.
	Half bool

	// The rest is guarded by Residence.mu.
	tensor  *tensors.Tensor // nil where it is not on the device
	holders int
	last    uint64 // clock when it was last released
	copied  extent // its copy in the spill file
}

// Numbers returns the number of elements.
func (w *Weight) Numbers() int {
	n := 1
	for _, d := range w.Dims {
		n *= d
	}
	return n
}

// Bytes returns the size on the device.
func (w *Weight) Bytes() int64 {
	if w.Half {
		return 2 * int64(w.Numbers())
	}
	return 4 * int64(w.Numbers())
}

// Residence keeps weights on the device, up to a limit. Past it, weights that are not held are evicted, the one first whose
// stage is farthest ahead: passes go through the layers in order, so the stage passed last is needed last. Evicted weights of
// the model's file are read from it again; gathered ones are written to a spill file, once.
//
// What is held at one time may exceed the limit: the weights of one block, or the LM head, for each goroutine that computes.
type Residence struct {
	dev    Device
	limit  int64 // bytes, 0 for none
	stages int

	mu         sync.Mutex
	idle       map[*Weight]bool // on the device and not held
	used, peak int64
	clock      uint64
	spilled    spillFile
}

// New returns a residence on a device with a limit in bytes, 0 for none, for passes of so many stages. Spilled weights go to a
// temporary file in dir, "" for the system's temporary folder.
func New(dev Device, limit int64, dir string, stages int) *Residence {
	return &Residence{dev: dev, limit: limit, stages: stages, idle: make(map[*Weight]bool), spilled: spillFile{dir: dir}}
}

// Held is a set of weights that stay on the device until Release.
type Held struct {
	r       *Residence
	weights []*Weight
	// Tensors are those of the weights, in the order of the arguments of Hold without the nil ones.
	Tensors []*tensors.Tensor
}

// Hold puts weights on the device and keeps them there until [Held.Release]; nil ones are skipped.
func (r *Residence) Hold(ws ...*Weight) (*Held, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &Held{r: r}
	for _, w := range ws { // all of them first, so that bringing one evicts none of them
		if w != nil {
			w.holders++
			delete(r.idle, w)
			h.weights = append(h.weights, w)
		}
	}
	for _, w := range h.weights {
		if err := r.bring(w); err != nil {
			h.end()
			return nil, err
		}
		h.Tensors = append(h.Tensors, w.tensor)
	}
	return h, nil
}

// With returns before followed by the tensors, as arguments of a graph.
func (h *Held) With(before ...*tensors.Tensor) []*tensors.Tensor { return append(before, h.Tensors...) }

// Release ends the hold. It must be called once.
func (h *Held) Release() {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.end()
}

func (h *Held) end() {
	for _, w := range h.weights {
		w.holders--
		if w.holders == 0 && w.tensor != nil {
			h.r.rest(w)
		}
	}
	h.weights, h.Tensors = nil, nil
}

// rest notes that a weight on the device is no longer held.
func (r *Residence) rest(w *Weight) {
	r.clock++
	w.last = r.clock
	r.idle[w] = true
}

// bring puts a weight on the device.
func (r *Residence) bring(w *Weight) (err error) {
	if w.tensor != nil {
		return nil
	}
	if err := r.makeRoom(w); err != nil {
		return err
	}
	load := w.Load
	if load == nil {
		load = func(to []float32) error { return r.spilled.read(w.copied, to) }
	}
	if w.tensor, err = r.dev.Create(w.Half, load, w.Dims...); err != nil {
		return err
	}
	r.count(w)
	return nil
}

func (r *Residence) count(w *Weight) {
	r.used += w.Bytes()
	r.peak = max(r.peak, r.used)
}

// makeRoom evicts weights until w fits or all are held.
func (r *Residence) makeRoom(w *Weight) error {
	for r.limit > 0 && r.used+w.Bytes() > r.limit {
		v := r.farthest(w.Stage)
		if v == nil {
			return nil
		}
		if v.Load == nil && v.copied.size == 0 {
			if err := r.spill(v); err != nil {
				return err
			}
		}
		r.remove(v)
	}
	return nil
}

// farthest returns the weight to evict: the one whose stage a pass at the given stage reaches last, among those of one stage the
// one released longest ago. It returns nil where all are held.
func (r *Residence) farthest(stage int) *Weight {
	var far *Weight
	var most int
	for w := range r.idle {
		d := (w.Stage - stage + r.stages) % r.stages
		if far == nil || d > most || d == most && w.last < far.last {
			far, most = w, d
		}
	}
	return far
}

// remove frees a weight on the device.
func (r *Residence) remove(w *Weight) {
	free(w.tensor)
	w.tensor = nil
	r.used -= w.Bytes()
	delete(r.idle, w)
}

func (r *Residence) spill(w *Weight) error {
	var werr error
	err := r.dev.Read(w.tensor, func(data []float32) { w.copied, werr = r.spilled.write(data) })
	return errors.Join(err, werr)
}

// Add makes a gathered weight of a stage, in bfloat16 where half is set.
func (r *Residence) Add(half bool, data []float32, stage int, dims ...int) (w *Weight, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w = &Weight{Dims: dims, Stage: stage, Half: half}
	if err := r.makeRoom(w); err != nil {
		return nil, err
	}
	if w.tensor, err = r.dev.Upload(half, data, dims...); err != nil {
		return nil, err
	}
	r.count(w)
	r.rest(w)
	return w, nil
}

// Drop frees weights that are neither held nor needed any more.
func (r *Residence) Drop(ws ...*Weight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range ws {
		if w.tensor != nil {
			r.remove(w)
		}
		r.spilled.giveBack(w.copied)
		w.copied = extent{}
	}
}

// Read calls use with the numbers of a weight as the device has them, which are valid during the call only and must not be modified. A weight
// of the file that does not fit on the device is read from the file alone.
func (r *Residence) Read(w *Weight, use func(data []float32)) error {
	r.mu.Lock()
	if w.tensor == nil && w.Load != nil && r.limit > 0 && r.used+w.Bytes() > r.limit {
		r.mu.Unlock()
		data := make([]float32, w.Numbers())
		if err := w.Load(data); err != nil {
			return err
		}
		use(data)
		return nil
	}
	r.mu.Unlock()
	h, err := r.Hold(w)
	if err != nil {
		return err
	}
	defer h.Release()
	return r.dev.Read(h.Tensors[0], use)
}

// Fetch copies the numbers of a weight to the host: those of the file, which are not rounded to bfloat16, where it is from one.
func (r *Residence) Fetch(w *Weight) ([]float32, error) {
	if w.Half && w.Load != nil {
		out := make([]float32, w.Numbers())
		return out, w.Load(out)
	}
	var out []float32
	err := r.Read(w, func(data []float32) { out = append(make([]float32, 0, len(data)), data...) })
	return out, err
}

// Bytes returns the bytes on the device, now and at most so far.
func (r *Residence) Bytes() (now, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, r.peak
}

// Close frees what is on the device. Nothing may be held.
func (r *Residence) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.idle {
		r.remove(w)
	}
	r.spilled.close()
}
