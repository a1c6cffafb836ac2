package levels_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/search/levels"
)

// bench makes ladders as another process does, when it gets to them.
type bench struct {
	t     *testing.T
	m     *decoder.Model
	d     levels.Deliveries
	ahead int
	alter func(slot int, data []byte) []byte // of what it delivers; nil delivers it as it is
	soon  bool                               // it delivers before it is asked for the next one

	delivers  atomic.Bool // a delivery is under way
	mu        sync.Mutex
	work      sync.WaitGroup
	asked     []int
	withdrawn []int
	errs      []error
	never     bool    // it delivers nothing
	ridge     float64 // that it computes with; 0 is what it was asked for
}

func (b *bench) Ahead() int { return b.ahead }

func (b *bench) Fit(f levels.Fit, moments string, limit int64) error {
	b.mu.Lock()
	b.asked = append(b.asked, f.Slot)
	b.mu.Unlock()
	if b.never {
		return nil
	}
	data, err := os.ReadFile(moments)
	if err != nil {
		return err
	}
	mine := filepath.Join(b.t.TempDir(), "moments")
	if err := os.WriteFile(mine, data, 0o600); err != nil {
		return err
	}
	path := filepath.Join(b.t.TempDir(), "ladder")
	if b.ridge != 0 {
		f.Lambda = b.ridge
	}
	run := b.work.Go
	if b.soon {
		run = func(do func()) { do() }
	}
	run(func() {
		err := levels.Make(context.Background(), b.m, f, mine, path)
		if err == nil && b.alter != nil {
			if data, err = os.ReadFile(path); err == nil {
				err = os.WriteFile(path, b.alter(f.Slot, data), 0o600)
			}
		}
		if info, failed := os.Stat(path); err == nil && (failed != nil || info.Size() > limit) {
			err = fmt.Errorf("%d bytes, %d at most: %w", info.Size(), limit, failed)
		}
		if err == nil {
			b.delivers.Store(true)
			err = b.d.Made(f.Slot, path, 0.5)
			b.delivers.Store(false)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.errs = append(b.errs, err)
	})
	return nil
}

func (b *bench) Withdraw(slot int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withdrawn = append(b.withdrawn, slot)
}

func (b *bench) Close() error {
	b.work.Wait()
	return nil
}

// files returns the content of the ladders in a folder.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.levels"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, path := range paths {
		if out[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestLevelsMadeElsewhere makes levels with others that deliver all ladders, none, or altered ones. The files are equal to the last byte to those of one
// process, and what others delivered wrong is refused.
func TestLevelsMadeElsewhere(t *testing.T) {
	m := tiny(t)
	dir := t.TempDir()
	build(t, m, dir, options)
	want := files(t, dir)
	if len(want) != 6 {
		t.Fatalf("%d files", len(want))
	}
	for name, test := range map[string]struct {
		b       *bench
		damaged bool // what is delivered is refused
	}{
		"all":   {b: &bench{ahead: 100}},
		"soon":  {b: &bench{ahead: 100, soon: true}},
		"none":  {b: &bench{ahead: 100, never: true}},
		"two":   {b: &bench{ahead: 2}},
		"cut":   {b: &bench{ahead: 100, alter: func(_ int, data []byte) []byte { return data[:len(data)-4] }}, damaged: true},
		"flip":  {b: &bench{ahead: 100, alter: func(_ int, data []byte) []byte { data[len(data)-100] ^= 1; return data }}, damaged: true},
		"empty": {b: &bench{ahead: 100, alter: func(int, []byte) []byte { return nil }}, damaged: true},
		"ridge": {b: &bench{ahead: 100, ridge: 0.1000001}, damaged: true}, // whole, and not equal to the last bit
		"another": {b: &bench{ahead: 100, alter: func(slot int, data []byte) []byte {
			for name, other := range want { // of a later module
				if name[len(name)-15:] == "002-mlp.levels" || slot == 5 {
					return bytes.Clone(other)
				}
			}
			return nil
		}}, damaged: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := test.b
			b.t, b.m = t, m
			dir, o := t.TempDir(), options
			o.Scratch = t.TempDir()
			last := 0
			o.Progress = func(e levels.Event) {
				if e.Done < last || e.Done > 6 || e.Total != 6 || e.Levels == 0 {
					t.Errorf("progress %+v after %d", e, last)
				}
				last = e.Done
			}
			o.HandOut = func(_ context.Context, d levels.Deliveries) (levels.Fitter, error) {
				b.d = d
				if text := d.Text(); len(text) != 1 || len(text[0]) != 48 {
					t.Errorf("text of %d windows", len(text))
				}
				return b, nil
			}
			build(t, m, dir, o)
			got := files(t, dir)
			if len(got) != len(want) || last != 6 {
				t.Errorf("%d files, %d modules reported", len(got), last)
			}
			for name, data := range want {
				if !bytes.Equal(got[name], data) {
					t.Errorf("%s has %d bytes that differ from those of one process, %d", name, len(got[name]), len(data))
				}
			}
			if len(b.asked) == 0 || b.ahead == 2 && len(b.asked) < 2 || b.never && len(b.withdrawn) != len(b.asked) {
				t.Errorf("asked for %v, withdrawn %v", b.asked, b.withdrawn)
			}
			damaged := 0
			for _, err := range b.errs {
				if errors.Is(err, levels.ErrDamaged) {
					damaged++
				} else if err != nil {
					t.Error(err)
				}
			}
			if test.damaged != (damaged > 0) {
				t.Errorf("errors of what was delivered: %v", b.errs)
			}
			left, err := os.ReadDir(o.Scratch)
			if err != nil || len(left) > 0 {
				t.Errorf("%d temporary files are left: %v", len(left), err)
			}
		})
	}
}

// TestLevelsResumeElsewhere interrupts the making of levels with others, which leaves ladders of any modules. It continues with what is missing.
func TestLevelsResumeElsewhere(t *testing.T) {
	m := tiny(t)
	whole := t.TempDir()
	build(t, m, whole, options)
	want := files(t, whole)
	dir, o := t.TempDir(), options
	for name, data := range want {
		if name[len(name)-14:] == "000-mlp.levels" || name[len(name)-20:] == "002-attention.levels" {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := &bench{t: t, m: m, ahead: 100}
	o.HandOut = func(_ context.Context, d levels.Deliveries) (levels.Fitter, error) {
		b.d = d
		return b, nil
	}
	build(t, m, dir, o)
	for name, data := range want {
		if !bytes.Equal(files(t, dir)[name], data) {
			t.Errorf("%s differs", name)
		}
	}
	if len(b.asked) != 4 {
		t.Errorf("asked for %v", b.asked)
	}
}

// TestLevelsOnFullDisk has the folder of levels be full when others deliver: the making of levels waits for room, and no delivery does.
func TestLevelsOnFullDisk(t *testing.T) {
	m := tiny(t)
	whole := t.TempDir()
	build(t, m, whole, options)
	dir, o := filepath.Join(t.TempDir(), "levels"), options
	b := &bench{t: t, m: m, ahead: 100, soon: true}
	o.HandOut = func(_ context.Context, d levels.Deliveries) (levels.Fitter, error) {
		b.d = d
		return b, os.RemoveAll(dir) // nothing can be written to it
	}
	waits := 0
	o.Persist = func(_ context.Context, write func() error) error {
		waits++
		if b.delivers.Load() {
			t.Error("a delivery waits for room")
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return write()
	}
	build(t, m, dir, o)
	if waits != 1 || len(b.errs) != 6 || errors.Join(b.errs...) != nil {
		t.Errorf("%d waits, %d deliveries: %v", waits, len(b.errs), errors.Join(b.errs...))
	}
	got := files(t, dir)
	for name, data := range files(t, whole) {
		if !bytes.Equal(got[name], data) {
			t.Errorf("%s differs", name)
		}
	}
}

// TestLevelsFailElsewhere has others end with an error: so does the making of levels.
func TestLevelsFailElsewhere(t *testing.T) {
	m := tiny(t)
	o, gone := options, errors.New("there are no workers left")
	b := &bench{t: t, m: m, ahead: 100, never: true}
	o.HandOut = func(_ context.Context, d levels.Deliveries) (levels.Fitter, error) {
		d.Failed(gone)
		return b, nil
	}
	if _, err := levels.Build(t.Context(), m, texts(3, 48, m.Geometry().Vocab), t.TempDir(), o); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
}
