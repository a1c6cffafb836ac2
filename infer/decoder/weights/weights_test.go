package weights

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// host is a device in the memory of Go.
type host struct{}

func (host) Create(_ bool, fill func(to []float32) error, dims ...int) (*tensors.Tensor, error) {
	t := tensors.FromShape(shapes.Make(dtypes.Float32, dims...))
	var ferr error
	if err := tensors.MutableFlatData(t, func(to []float32) { ferr = fill(to) }); err != nil {
		return nil, err
	}
	return t, ferr
}

func (h host) Upload(half bool, data []float32, dims ...int) (*tensors.Tensor, error) {
	return h.Create(half, func(to []float32) error { copy(to, data); return nil }, dims...)
}

func (host) Read(t *tensors.Tensor, use func(data []float32)) error {
	return tensors.ConstFlatData(t, use)
}

// TestEviction walks through weights of three stages where two fit: the one to evict is that of the stage reached last, gathered
// weights come back from the spill file and others from where they were loaded.
func TestEviction(t *testing.T) {
	r := New(host{}, 2*4*4, t.TempDir(), 3)
	defer r.Close()
	var loads []int
	list := make([]*Weight, 3)
	for stage := range list {
		list[stage] = &Weight{Dims: []int{4}, Stage: stage, Load: func(to []float32) error {
			loads = append(loads, stage)
			for i := range to {
				to[i] = float32(10*stage + i)
			}
			return nil
		}}
	}
	hold := func(w *Weight) []float32 {
		t.Helper()
		h, err := r.Hold(nil, w)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Release()
		var out []float32
		if err := (host{}).Read(h.Tensors[0], func(data []float32) { out = slices.Clone(data) }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, stage := range []int{0, 1, 2, 0, 1, 2} { // 2 evicts 1, which a pass from 2 reaches after 0, and 1 evicts 0
		if got, want := hold(list[stage]), float32(10*stage+3); got[3] != want {
			t.Errorf("stage %d: %v", stage, got)
		}
	}
	if want := []int{0, 1, 2, 1}; !slices.Equal(loads, want) {
		t.Errorf("loads %v, want %v", loads, want)
	}
	gathered, err := r.Add(false, []float32{1, 2, 3, 4}, 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range []int{2, 0, 2} { // evict 1, then 2, then the gathered weight
		hold(list[stage])
	}
	if gathered.tensor != nil {
		t.Error("the gathered weight was not evicted")
	}
	if got := hold(gathered); !slices.Equal(got, []float32{1, 2, 3, 4}) {
		t.Errorf("the gathered weight came back as %v", got)
	}
	if now, most := r.Bytes(); now > 32 || most > 32 {
		t.Errorf("%d bytes now and %d at most, with a limit of 32", now, most)
	}
	h, err := r.Hold(list...) // held weights may exceed the limit
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := r.Bytes(); now < 48 {
		t.Errorf("%d bytes while 48 are held", now)
	}
	h.Release()
	r.Drop(gathered)
}

// TestRegistry shares a block by its content, and frees it with the last reference once there is no room for spare ones.
func TestRegistry(t *testing.T) {
	residence := New(host{}, 0, "", 1)
	defer residence.Close()
	r := NewRegistry(8 * 16) // spare blocks of 16 bytes
	var freed []int
	build := func(id int) func() (*Block, error) {
		return func() (*Block, error) {
			w, err := residence.Add(false, make([]float32, 4), 0, 4)
			if err != nil {
				return nil, err
			}
			b := &Block{ID: uint64(id), Freed: func() { freed = append(freed, id) }}
			b.Own(residence, []*Weight{w})
			b.Retain()
			return b, nil
		}
	}
	key := func(channels int) Key {
		return r.Key(0, subnet.MLP, subnet.Layer{Channels: subnet.Range(8, 0, channels)}, gguf.Refit{})
	}
	share := func(channels int) *Block {
		t.Helper()
		b, err := Share(&r, key(channels), build(channels))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one := share(1)
	if again := share(1); again != one {
		t.Error("equal blocks are not shared")
	} else {
		again.Release()
	}
	one.Release()
	share(2).Release() // makes 1 and 2 spare, one too many at the next
	if len(freed) > 0 {
		t.Errorf("freed %v too early", freed)
	}
	held := share(3)
	if fmt.Sprint(freed) != "[1]" {
		t.Errorf("freed %v, want the oldest, 1", freed)
	}
	if now, _ := residence.Bytes(); now != 2*16 {
		t.Errorf("%d bytes on the device", now)
	}
	r.Clear()
	held.Release()
	if now, _ := residence.Bytes(); fmt.Sprint(freed) != "[1 2 3]" || now != 0 {
		t.Errorf("freed %v, %d bytes on the device", freed, now)
	}
}
