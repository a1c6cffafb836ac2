package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// infoResult is what `info --json` writes.
type infoResult struct {
	Model        string      `json:"model"`
	Name         string      `json:"name"`
	Architecture string      `json:"architecture"`
	Type         string      `json:"type"`
	Bytes        int64       `json:"bytes"`
	Params       int64       `json:"parameters"`
	BlockParams  int64       `json:"block_parameters"`
	Hidden       int         `json:"hidden"`
	HeadDim      int         `json:"head_dim"`
	Vocab        int         `json:"vocabulary"`
	Context      int         `json:"context"`
	Tied         bool        `json:"tied_embeddings"`
	ChatTemplate bool        `json:"chat_template"`
	NoRuntime    string      `json:"no_runtime,omitempty"` // why llama.cpp cannot run it
	KVBytes      int64       `json:"kv_bytes_per_token"`
	FLOPs        flopsResult `json:"flops_per_token"`
	CutMemory    int64       `json:"cut_memory_bytes"` // of a one-shot cut to 0.8, by the default calibration
	Types        []typeSize  `json:"types,omitempty"`  // of the file with its matrices in another type, the largest first
	SubnetOf     string      `json:"subnet_of,omitempty"`
	Share        float64     `json:"share,omitempty"`
	Layers       []infoLayer `json:"layers"`
}

// typeSize is the size of a file with matrices of a type.
type typeSize struct {
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
}

// infoLayer is the shape of one layer.
type infoLayer struct {
	Heads   int `json:"heads"`
	KVHeads int `json:"kv_heads"`
	MLP     int `json:"mlp"`
}

func (a *app) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info [MODEL]",
		Short: "Show model metadata",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			info, err := a.modelInfo(cmd.Context(), model)
			if err != nil {
				return err
			}
			r := newInfo(info, oneshot.Limits{States: a.spill, Weights: a.weights, Half: a.computeType == explorer.HalfFloats})
			return a.result(r, func(w io.Writer) { r.words(w, info) })
		},
	}
}

// modelInfo returns the metadata of a model.
func (a *app) modelInfo(ctx context.Context, path string) (explorer.ModelInfo, error) {
	if a.shared != nil {
		return a.shared.Snapshot().Model, nil
	}
	path, err := a.local(ctx, path)
	if err != nil {
		return explorer.ModelInfo{}, err
	}
	backend, err := a.backend(a.compute)
	if err != nil {
		return explorer.ModelInfo{}, err
	}
	m, err := backend.Open(ctx, path)
	if err != nil {
		return explorer.ModelInfo{}, err
	}
	return m.Info(), m.Close()
}

// newInfo returns the metadata with the memory that a cut within limits needs; limits of 0 are the defaults.
func newInfo(m explorer.ModelInfo, limits oneshot.Limits) infoResult {
	if limits.States == 0 {
		limits.States = decoder.DefaultMemory
	}
	if limits.Weights == 0 {
		limits.Weights = engine.DefaultWeights()
	}
	size := subnet.Dense(m.Geometry).Size()
	r := infoResult{
		Model: m.Path, Name: m.Name, Architecture: m.Arch, Type: m.Type(), Bytes: m.Bytes, Params: m.Params, BlockParams: m.BlockParams,
		Hidden: m.Hidden, HeadDim: m.Geometry.HeadDim, Vocab: m.Vocab, Context: m.Context, Tied: m.Tied, ChatTemplate: m.ChatTemplate, NoRuntime: m.NoRuntime,
		KVBytes: size.KVBytesPerToken, FLOPs: newFLOPs(subnet.Dense(m.Geometry)), SubnetOf: m.SubnetOf, Share: m.Share,
		CutMemory: oneshot.MemoryOf(m.Geometry, 0.8, explorer.FitWindows, explorer.DefaultSeq, limits).Total(),
	}
	for _, typ := range gguf.WritableNames() {
		if bytes := m.FileSize(subnet.Dense(m.Geometry), typ).File; bytes > 0 {
			r.Types = append(r.Types, typeSize{typ, bytes})
		}
	}
	slices.SortStableFunc(r.Types, func(a, b typeSize) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for _, l := range m.Geometry.Layers {
		r.Layers = append(r.Layers, infoLayer{l.Heads, l.KVHeads, l.FFN})
	}
	return r
}

func (r infoResult) words(w io.Writer, m explorer.ModelInfo) {
	rows := [][]string{
		{"model", r.Name},
		{"file", fmt.Sprintf("%s (%s, %s)", r.Model, format.Bytes(r.Bytes), r.Type)},
		{"in other types", typeWords(r.Types)},
		{"architecture", r.Architecture},
		{"parameters", fmt.Sprintf("%s, %s of them in decoder blocks", format.Count(r.Params), format.Count(r.BlockParams))},
		{"layers", shapes(m.Geometry.Layers)},
		{"hidden size", fmt.Sprintf("%d, heads of %d", r.Hidden, r.HeadDim)},
		{"vocabulary", fmt.Sprintf("%d%s", r.Vocab, map[bool]string{true: ", output tied to the embedding"}[r.Tied])},
		{"context", fmt.Sprintf("%d tokens, %s of KV cache each", r.Context, format.Bytes(r.KVBytes))},
		{"operations", fmt.Sprintf("%s per token of a prompt of %d tokens, %s per token after it", format.Count(r.FLOPs.Prefill), r.FLOPs.Context, format.Count(r.FLOPs.Decode))},
		{"memory to cut", fmt.Sprintf("about %s with %d calibration windows of %d tokens", format.Bytes(r.CutMemory), explorer.FitWindows, explorer.DefaultSeq)},
		{"chat template", map[bool]string{true: "yes", false: "no"}[r.ChatTemplate]},
	}
	if r.NoRuntime != "" {
		rows = append(rows, []string{"not runnable", r.NoRuntime})
	}
	if r.SubnetOf != "" {
		rows = append(rows, []string{"subnet of", fmt.Sprintf("%s, %.3f of its block parameters", r.SubnetOf, r.Share)})
	}
	table(w, rows...)
}

// typeWords lists sizes.
func typeWords(sizes []typeSize) string {
	words := make([]string, len(sizes))
	for i, s := range sizes {
		words[i] = fmt.Sprintf("%s %s", s.Type, format.Bytes(s.Bytes))
	}
	return strings.Join(words, ", ")
}

// shapes describes the layers, grouping consecutive layers of equal shape.
func shapes(layers []subnet.LayerGeometry) string {
	var parts []string
	for i := 0; i < len(layers); {
		j := i
		for j < len(layers) && layers[j] == layers[i] {
			j++
		}
		l := layers[i]
		text := fmt.Sprintf("%d × ", j-i)
		if l.Heads == 0 {
			text += "no attention"
		} else {
			text += format.Counted(l.Heads, "head") + " in " + format.Counted(l.KVHeads, "group")
		}
		parts = append(parts, fmt.Sprintf("%s, mlp %d", text, l.FFN))
		i = j
	}
	const most = 6
	if len(parts) > most {
		parts = append(parts[:most], "… ("+format.Counted(len(parts), "shape")+")")
	}
	return strings.Join(parts, "; ")
}
