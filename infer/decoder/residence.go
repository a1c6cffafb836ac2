package decoder

import (
	"errors"
	"sync"

	"github.com/gomlx/gomlx/core/tensors"
)

// weight is a tensor of a model or of a block, [out, in] or [n]. It is on the device while it is held, and after that
// until it is evicted.
type weight struct {
	dims []int
	// stage is when a pass over the model needs it: 0 for the embedding, then layer by layer, the LM head last.
	stage int
	// load reads the numbers from the model's file; nil for gathered weights, which are spilled instead.
	load func(to []float32) error

	// The rest is guarded by residence.mu.
	tensor  *tensors.Tensor // nil where it is not on the device
	holders int
	last    uint64 // clock when it was last released
	copied  extent // its copy in the spill file
}

func (w *weight) numbers() int {
	n := 1
	for _, d := range w.dims {
		n *= d
	}
	return n
}

func (w *weight) bytes() int64 { return 4 * int64(w.numbers()) }

// residence keeps weights on the device, up to a limit. Past it, weights that are not held are evicted, the one first whose
// stage is farthest ahead: passes go through the layers in order, so the stage passed last is needed last. Evicted weights of
// the model's file are read from it again; gathered ones are written to a spill file, once.
//
// What is held at one time may exceed the limit: the weights of one block, or the LM head, for each goroutine that computes.
type residence struct {
	dev    *Device
	limit  int64 // bytes, 0 for none
	stages int

	mu         sync.Mutex
	idle       map[*weight]bool // on the device and not held
	used, peak int64
	clock      uint64
	spilled    spillFile
}

func newResidence(dev *Device, limit int64, dir string, stages int) *residence {
	return &residence{dev: dev, limit: limit, stages: stages, idle: make(map[*weight]bool), spilled: spillFile{dir: dir}}
}

// held is a set of weights that stay on the device until release.
type held struct {
	r       *residence
	weights []*weight
	tensors []*tensors.Tensor // of the weights, in the order of the arguments of hold
}

// hold brings weights to the device; nil ones are skipped.
func (r *residence) hold(ws ...*weight) (*held, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &held{r: r}
	for _, w := range ws { // all of them first, so that bringing one evicts none of them
		if w != nil {
			w.holders++
			delete(r.idle, w)
			h.weights = append(h.weights, w)
		}
	}
	for _, w := range h.weights {
		if err := r.bring(w); err != nil {
			h.giveBack()
			return nil, err
		}
		h.tensors = append(h.tensors, w.tensor)
	}
	return h, nil
}

// with returns the tensors after those given, as arguments of a graph.
func (h *held) with(before ...*tensors.Tensor) []*tensors.Tensor { return append(before, h.tensors...) }

func (h *held) release() {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.giveBack()
}

func (h *held) giveBack() {
	for _, w := range h.weights {
		w.holders--
		if w.holders == 0 && w.tensor != nil {
			h.r.rest(w)
		}
	}
	h.weights, h.tensors = nil, nil
}

// rest notes that a weight on the device is no longer held.
func (r *residence) rest(w *weight) {
	r.clock++
	w.last = r.clock
	r.idle[w] = true
}

// bring puts a weight on the device.
func (r *residence) bring(w *weight) (err error) {
	if w.tensor != nil {
		return nil
	}
	if err := r.makeRoom(w); err != nil {
		return err
	}
	load := w.load
	if load == nil {
		load = func(to []float32) error { return r.spilled.read(w.copied, to) }
	}
	if w.tensor, err = r.dev.create(load, w.dims...); err != nil {
		return err
	}
	r.count(w)
	return nil
}

func (r *residence) count(w *weight) {
	r.used += w.bytes()
	r.peak = max(r.peak, r.used)
}

// makeRoom evicts weights until w fits or all are held.
func (r *residence) makeRoom(w *weight) error {
	for r.limit > 0 && r.used+w.bytes() > r.limit {
		v := r.farthest(w.stage)
		if v == nil {
			return nil
		}
		if v.load == nil && v.copied.size == 0 {
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
func (r *residence) farthest(stage int) *weight {
	var far *weight
	var most int
	for w := range r.idle {
		d := (w.stage - stage + r.stages) % r.stages
		if far == nil || d > most || d == most && w.last < far.last {
			far, most = w, d
		}
	}
	return far
}

// remove frees a weight on the device.
func (r *residence) remove(w *weight) {
	free(w.tensor)
	w.tensor = nil
	r.used -= w.bytes()
	delete(r.idle, w)
}

func (r *residence) spill(w *weight) error {
	var werr error
	err := r.dev.read(w.tensor, func(data []float32) { w.copied, werr = r.spilled.write(data) })
	return errors.Join(err, werr)
}

// add makes a gathered weight of a stage.
func (r *residence) add(data []float32, stage int, dims ...int) (w *weight, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w = &weight{dims: dims, stage: stage}
	if err := r.makeRoom(w); err != nil {
		return nil, err
	}
	if w.tensor, err = r.dev.upload(data, dims...); err != nil {
		return nil, err
	}
	r.count(w)
	r.rest(w)
	return w, nil
}

// drop frees weights that are neither held nor needed any more.
func (r *residence) drop(ws ...*weight) {
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

// read calls use with the numbers of a weight, which are valid during the call only and must not be modified. A weight
// of the file that does not fit on the device is read from the file alone.
func (r *residence) read(w *weight, use func(data []float32)) error {
	r.mu.Lock()
	if w.tensor == nil && w.load != nil && r.limit > 0 && r.used+w.bytes() > r.limit {
		r.mu.Unlock()
		data := make([]float32, w.numbers())
		if err := w.load(data); err != nil {
			return err
		}
		use(data)
		return nil
	}
	r.mu.Unlock()
	h, err := r.hold(w)
	if err != nil {
		return err
	}
	defer h.release()
	return r.dev.read(h.tensors[0], use)
}

// fetch copies the numbers of a weight to the host.
func (r *residence) fetch(w *weight) ([]float32, error) {
	var out []float32
	err := r.read(w, func(data []float32) { out = append(make([]float32, 0, len(data)), data...) })
	return out, err
}

// bytes returns the bytes on the device, now and at most so far.
func (r *residence) bytes() (now, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, r.peak
}

// close frees what is on the device. Nothing may be held.
func (r *residence) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.idle {
		r.remove(w)
	}
	r.spilled.close()
}
