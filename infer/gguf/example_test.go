package gguf_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Open a model, write a subnet of it, and read the subnet back.
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	check(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "model.gguf")
	check(gguftest.Tiny("llama").Write(path))

	model, err := gguf.Open(path)
	check(err)
	defer model.Close()
	config, err := model.Config()
	check(err)
	g := config.Geometry()
	masks := subnet.Dense(&g).With(1, subnet.Layer{Heads: subnet.Of(4, 2, 3), Channels: subnet.Range(128, 0, 64)})
	report, err := gguf.WriteSubnet(context.Background(), model, filepath.Join(dir, "subnet.gguf"), gguf.Subnet{Masks: masks}, gguf.WriteOptions{})
	check(err)
	fmt.Printf("%s, %d parameters less\n", report.Arch, report.CompactParams)

	file, err := gguf.Open(report.Path)
	check(err)
	defer file.Close()
	read, err := gguf.ReadSubnet(context.Background(), model, file)
	check(err)
	fmt.Println(read.Masks.LayerText(1))
	// Output:
	// deci, 18432 parameters less
	// layer 1 heads=2-3/4 groups=2 mlp=0-63/128
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
