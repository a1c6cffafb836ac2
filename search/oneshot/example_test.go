package oneshot_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// A tiny model is cut to 70 % of its block parameters and written as a file.
func ExampleOneShot() {
	err := func() error {
		ctx := context.Background()
		dir, err := os.MkdirTemp("", "oneshot")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := gguftest.Tiny("llama").Write(filepath.Join(dir, "dense.gguf")); err != nil {
			return err
		}

		f, err := gguf.Open(filepath.Join(dir, "dense.gguf"))
		if err != nil {
			return err
		}
		defer f.Close()
		device, err := decoder.OpenDevice("go")
		if err != nil {
			return err
		}
		defer device.Close()
		m, err := decoder.Load(ctx, device, f)
		if err != nil {
			return err
		}
		defer m.Close()

		windows := decodertest.Windows(1, 4, 64, m.Geometry().Vocab) // calibration text as tokens
		s, report, err := oneshot.OneShot(ctx, m, windows, 0.7, oneshot.Config{Preset: preset.OBS, Granularity: 8})
		if err != nil {
			return err
		}
		fmt.Printf("ratio %.2f, %d modules\n", report.Ratio, len(report.Modules))
		for i := range s.Masks.Layers() {
			fmt.Printf("layer %d keeps %d of %d channels\n", i, s.Masks.Layer(i).Channels.Len(), m.Geometry().Layers[i].FFN)
		}
		_, err = gguf.WriteSubnet(ctx, f, filepath.Join(dir, "subnet.gguf"), s, gguf.WriteOptions{})
		return err
	}()
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// ratio 0.69, 6 modules
	// layer 0 keeps 64 of 128 channels
	// layer 1 keeps 72 of 128 channels
	// layer 2 keeps 72 of 128 channels
}
