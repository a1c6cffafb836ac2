package decoder

import (
	"errors"
	"testing"

	"github.com/gomlx/compute/gobackend"
)

// scripted is a client whose calls fail with an error each.
type scripted struct{ compiling, putting, running, getting error }

func (s *scripted) compile(string) (executable, error)   { return s, s.compiling }
func (s *scripted) put([]float64, []int) (buffer, error) { return s, s.putting }
func (s *scripted) run(in []buffer) ([]buffer, error)    { return in, s.running }
func (s *scripted) get([]float64) error                  { return s.getting }
func (s *scripted) free()                                {}

// TestFullPrograms: a device without memory is ErrMemory at every step of a program, and other failures are not.
func TestFullPrograms(t *testing.T) {
	full := errors.New("PJRT error (code=8): RESOURCE_EXHAUSTED: Out of memory while trying to allocate 970000000 bytes")
	other := errors.New("PJRT error (code=3): INVALID_ARGUMENT: no such operation")
	use := func(s *scripted) error {
		own, err := gobackend.New("ops_sequential")
		if err != nil {
			t.Fatal(err)
		}
		d := NewDevice(own, "cuda", "")
		defer d.Close()
		d.client = s
		a, err := d.Put([]float64{1})
		if err != nil {
			return err
		}
		defer a.Close()
		out, err := d.Program("echo", func() string { return "" }, a)
		if err != nil {
			return err
		}
		var to [1]float64
		return out[0].Get(to[:])
	}
	if err := use(&scripted{}); err != nil {
		t.Fatal(err)
	}
	for isFull, failure := range map[bool]error{true: full, false: other} {
		for step, s := range map[string]*scripted{"compile": {compiling: failure}, "copy": {putting: failure}, "run": {running: failure}, "read": {getting: failure}} {
			if err := use(s); !errors.Is(err, failure) || errors.Is(err, ErrMemory) != isFull {
				t.Errorf("%s: %v", step, err)
			}
		}
	}
}

// TestProgramsOfOthers: programs need XLA, and no closed device or array.
func TestProgramsOfOthers(t *testing.T) {
	own, err := gobackend.New("ops_sequential")
	if err != nil {
		t.Fatal(err)
	}
	d := NewDevice(own, "go", "")
	if d.RunsPrograms() || d.Algebra() {
		t.Error("GoMLX's own backend runs programs")
	}
	if _, err := d.Put([]float64{1}); err == nil {
		t.Error("an array without a client")
	}
	d.client = &scripted{}
	a, err := d.Put([]float64{1})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	if _, err := d.Program("p", func() string { return "" }, a); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed array: %v", err)
	}
	b, err := d.Put([]float64{1})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := b.Get(make([]float64, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("an array of a closed device: %v", err)
	}
	b.Close()
	if _, err := d.Put([]float64{1}); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed device: %v", err)
	}
}
