package algebra

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

// open opens XLA's plug-in for processors, on which all programs run.
func open(t testing.TB) *decoder.Device {
	t.Helper()
	dev, err := decoder.OpenDevice("xla")
	if errors.Is(err, decoder.ErrNoDevice) {
		t.Skipf("without XLA: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return dev
}

// TestDevice runs the suite of the processor's kernels with every operation on the device, however small.
func TestDevice(t *testing.T) {
	dev := open(t)
	if !dev.RunsPrograms() {
		t.Fatal("GoMLX's XLA backend has no client any more: see clientOf in package decoder")
	}
	linalgtest.Run(t, device{dev: dev})
}

// TestOf gives the device's algebra where it is set, and the processor's on others.
func TestOf(t *testing.T) {
	dev := open(t)
	if by := Of(dev); by.Name() != "go" {
		t.Errorf("on a processor the default is %s", by.Name())
	}
	if err := dev.SetAlgebra(true); err != nil {
		t.Fatal(err)
	}
	if by := Of(dev); by.Name() != "xla" {
		t.Errorf("set to the device, it is %s", by.Name())
	}
	other, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.SetAlgebra(true); !errors.Is(err, decoder.ErrNoDevice) {
		t.Errorf("GoMLX's own backend was set to XLA: %v", err)
	}
}

// TestBorders keeps the number of programs small and the borders narrow.
func TestBorders(t *testing.T) {
	seen := make(map[int]bool)
	for n := 1; n <= 11008; n++ {
		p := padded(n)
		seen[p] = true
		if p < n || n >= 1024 && float64(p) > 1.0625*float64(n) {
			t.Fatalf("width %d gets a border to %d", n, p)
		}
		if p < padded(n-1) {
			t.Fatalf("width %d gets less than width %d", n, n-1)
		}
	}
	if len(seen) > 100 {
		t.Errorf("%d widths for 11008", len(seen))
	}
}

// BenchmarkAlgebra compares the processor's kernels with XLA's on the same processor. The first call on a device, which compiles, is
// not timed but reported.
func BenchmarkAlgebra(b *testing.B) {
	const n, rows = 1536, 576
	rng := rand.New(rand.NewPCG(9, 10))
	x := make([]float64, n*n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	a := linalgtest.SecondMoment(n, n, x)
	for _, by := range []linalg.Algebra{linalg.CPU{}, device{dev: open(b)}} {
		var f linalg.Factored
		ops := []struct {
			name string
			run  func() error
		}{
			{"factor", func() (err error) {
				if f != nil {
					f.Close()
				}
				f, err = by.Factorize(a, n, 0.01)
				return err
			}},
			{"solve", func() error { return f.Solve(append([]float64(nil), x[:rows*n]...), rows) }},
			{"inverse", func() error { _, err := f.Inverse(); return err }},
			{"product", func() error { _, err := by.Product(rows, n, n, x[:rows*n], a); return err }},
			{"admm", func() error {
				_, _, err := by.ADMM(linalg.ADMM{Rows: rows, N: n, H: a, C: x[:rows*n], Cross: x[:rows*n], Start: x[:rows*n], Dropped: make([]bool, n), Rho: 1, Steps: 30})
				return err
			}},
		}
		for _, op := range ops {
			b.Run(fmt.Sprintf("%s/%s", op.name, by.Name()), func(b *testing.B) {
				if err := op.run(); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := op.run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		f.Close()
	}
}
