package gguf_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestWriteSubnetRefuses(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	elm := gguftest.Open(t, gguftest.Tiny("openelm"))
	qwen3 := gguftest.Open(t, gguftest.Tiny("qwen3"))
	dense, denseQwen3 := subnet.Dense(geometryOf(t, f)), subnet.Dense(geometryOf(t, qwen3))
	denseELM := subnet.Dense(geometryOf(t, elm))
	refit := func(r gguf.Refit) []gguf.Refit { return []gguf.Refit{{}, r, {}} }
	nan := make([]float32, 64)
	nan[5] = float32(math.NaN())
	dir := t.TempDir()
	for _, test := range []struct {
		name   string
		f      *gguf.File
		dst    string
		s      gguf.Subnet
		typ    string
		want   error
		reason string
	}{
		{"masks of another model", f, "", gguf.Subnet{Masks: denseELM}, "", gguf.ErrSubnet, "another shape"},
		{"no masks", f, "", gguf.Subnet{}, "", gguf.ErrSubnet, "no geometry"},
		{"refit of too few layers", f, "", gguf.Subnet{Masks: dense, Refit: refit(gguf.Refit{})[:2]}, "", gguf.ErrSubnet, "2 layers"},
		{"refit of another width", f, "", gguf.Subnet{Masks: dense, Refit: refit(gguf.Refit{WD: nan})}, "", gguf.ErrSubnet, "layer 1: re-fitted W_D"},
		{"refit not finite", f, "", gguf.Subnet{Masks: dense, Refit: refit(gguf.Refit{BO: nan})}, "", gguf.ErrSubnet, "holds NaN"},
		{"bias in openelm", elm, "", gguf.Subnet{Masks: denseELM, Refit: refit(gguf.Refit{BO: make([]float32, 64)})}, "", gguf.ErrSubnet, "no output biases"},
		{"bias in qwen3", qwen3, "", gguf.Subnet{Masks: denseQwen3, Refit: refit(gguf.Refit{BD: make([]float32, 64)})}, "", gguf.ErrSubnet, "qwen3 files hold no output biases"},
		{"unknown type", f, "", gguf.Subnet{Masks: dense}, "Q9_9", gguf.ErrType, "Q9_9"},
		{"type without writer", f, "", gguf.Subnet{Masks: dense}, "IQ2_XXS", gguf.ErrType, "cannot be written"},
		{"provenance of a strange type", f, "", gguf.Subnet{Masks: dense, Provenance: map[string]any{"x": struct{}{}}}, "", gguf.ErrSubnet, "general.lathe.x"},
		{"no such folder", f, filepath.Join(dir, "absent", "out.gguf"), gguf.Subnet{Masks: dense}, "", os.ErrNotExist, "no such file or directory"},
		{"a folder at the destination", f, dir, gguf.Subnet{Masks: dense}, "", nil, "not a regular file"},
		{"the source itself", f, f.Path(), gguf.Subnet{Masks: dense}, "", nil, "the model that the subnet is cut from"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dst := test.dst
			if dst == "" {
				dst = filepath.Join(t.TempDir(), "out.gguf")
			}
			_, err := gguf.WriteSubnet(context.Background(), test.f, dst, test.s, gguf.WriteOptions{Type: test.typ})
			if err == nil || !strings.Contains(err.Error(), test.reason) || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v", err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			if test.dst == "" {
				wantEmpty(t, filepath.Dir(dst))
			}
		})
	}
}

func TestCancelledWriteLeavesNothing(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	_, err := gguf.WriteSubnet(ctx, f, filepath.Join(dir, "out.gguf"), gguf.Subnet{Masks: subnet.Dense(geometryOf(t, f))},
		gguf.WriteOptions{Progress: func(done, total int64) {
			if done <= 0 || done > total {
				t.Errorf("%d of %d bytes", done, total)
			}
			cancel()
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	wantEmpty(t, dir)
}

// /dev/full replaces a full disk.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "out.gguf")
	w, err := gguf.Create(path, &gguf.KV{}, []gguf.Tensor{{Name: "a", Type: gguf.F32, Dims: []int{1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	gguf.SetOutput(w, full)
	err = w.Append("a", make([]byte, 4<<20))
	if err == nil {
		err = w.Commit()
	}
	w.Abort()
	if err == nil || !strings.Contains(err.Error(), path+": no space left on device") {
		t.Errorf("error %v", err)
	}
	wantEmpty(t, dir)
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}
