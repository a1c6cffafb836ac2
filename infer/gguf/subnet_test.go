package gguf_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// write writes a subnet and opens the result.
func write(t *testing.T, f *gguf.File, s gguf.Subnet, o gguf.WriteOptions) (*gguf.File, gguf.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.gguf")
	report, err := gguf.WriteSubnet(context.Background(), f, path, s, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	if report.Path != path || report.Bytes != out.Size() {
		t.Errorf("the report has %d bytes in %s, the file %d", report.Bytes, report.Path, out.Size())
	}
	return out, report
}

// The sizes that masks predict are those of the file, to the byte, and the report adds up.
func TestSizesAreAsPredicted(t *testing.T) {
	for _, family := range gguftest.Families() {
		if uneven(family) {
			continue // other counts than the cases are made for
		}
		for _, c := range cutCases() {
			for _, typ := range []string{"F16", "Q8_0"} {
				t.Run(family.Name+"/"+c.name+"/"+typ, func(t *testing.T) {
					f := gguftest.Open(t, family.Model)
					m := c.masks(subnet.Dense(geometryOf(t, f)))
					out, report := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: typ})
					if want := m.GGUFBytes(typ); report.TensorBytes != want {
						t.Errorf("%d bytes of tensors, the masks predict %d", report.TensorBytes, want)
					}
					size := m.Size()
					if report.ZeroedParams != size.ZeroedParams || report.CompactParams != size.DenseBlockParams-size.BlockParams-size.ZeroedParams {
						t.Errorf("zeroed %d and compact %d parameters, the masks predict %+v", report.ZeroedParams, report.CompactParams, size)
					}
					checkReport(t, out, report)
				})
			}
		}
	}
}

func checkReport(t *testing.T, out *gguf.File, report gguf.Report) {
	t.Helper()
	var tensors, byType, listed int64
	for _, tensor := range out.Tensors() {
		tensors += tensor.Size
	}
	for _, n := range report.ByType {
		byType += n
	}
	for _, z := range report.Zeroed {
		listed += z.Params
	}
	if tensors != report.TensorBytes || byType != report.TensorBytes || listed != report.ZeroedParams {
		t.Errorf("tensors of %d bytes, by type %d, listed zeros %d do not add up to %+v", tensors, byType, listed, report)
	}
	for _, z := range report.Zeroed {
		if z.What == "" || z.Why == "" || strings.Contains(z.What, "-") {
			t.Errorf("unclear: %+v", z)
		}
	}
}

// Every number of a zero-filled file is that of the source where the masks keep its units and zero elsewhere.
func TestZeroedTensors(t *testing.T) {
	for _, c := range cutCases() {
		t.Run(c.name, func(t *testing.T) {
			llama := gguftest.Tiny("llama")
			llama.QKVBias, llama.OutBias = true, true
			for _, model := range []gguftest.Model{llama, gguftest.Tiny("opt")} {
				f := gguftest.Open(t, model)
				m := c.masks(subnet.Dense(geometryOf(t, f)))
				out, _ := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Zeroed: true})
				for _, tensor := range f.Tensors() {
					checkZeroed(t, f, out, m, tensor.Name)
				}
			}
		})
	}
}

func checkZeroed(t *testing.T, f, out *gguf.File, m subnet.Masks, name string) {
	t.Helper()
	got, dims, err := out.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := f.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	keep(m, name, want, dims)
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: number %d is %v, want %v", name, i, got[i], want[i])
		}
	}
}

// keptRows returns head·dim + channel over the kept heads, perGroup of which share the channels of a group.
func keptRows(heads subnet.Set, perGroup, dim int, channels func(group, dim int) subnet.Set) []int {
	var rows []int
	for _, h := range heads.Indices() {
		for _, c := range channels(h/perGroup, dim).Indices() {
			rows = append(rows, h*dim+c)
		}
	}
	return rows
}

// keep zeroes what the masks drop of a tensor of the source.
func keep(m subnet.Masks, name string, values []float32, dims []int) {
	parts := strings.Split(name, ".")
	if parts[0] != "blk" {
		return
	}
	layer := int(parts[1][0] - '0')
	l, lg, dim := m.Layer(layer), m.Geometry().Layers[layer], m.Geometry().HeadDim
	var rows, cols []int
	switch parts[2] {
	case "attn_q":
		rows = keptRows(l.Heads, lg.HeadsPerGroup(), dim, l.QKOf)
	case "attn_k":
		rows = keptRows(l.Groups(lg), 1, dim, l.QKOf)
	case "attn_v":
		rows = keptRows(l.Groups(lg), 1, dim, l.VOOf)
	case "ffn_gate", "ffn_up":
		rows = m.Layer(layer).Channels.Indices()
	case "attn_output":
		cols = m.OColumns(layer)
	case "ffn_down":
		cols = m.Layer(layer).Channels.Indices()
	default:
		return
	}
	if parts[3] == "bias" {
		if parts[2] == "attn_output" || parts[2] == "ffn_down" {
			return
		}
		dims = []int{dims[0], 1}
	}
	byRow := parts[2] != "attn_output" && parts[2] != "ffn_down"
	for i := range values {
		if byRow && !slices.Contains(rows, i/dims[1]) || !byRow && !slices.Contains(cols, i%dims[1]) {
			values[i] = 0
		}
	}
}

// Re-fitted matrices replace the kept columns and nothing else.
func TestRefitTakesTheKeptColumns(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	m := everySecondChannel(keepHeads(subnet.Dense(geometryOf(t, f)), 1, 1, 2), 1, 0)
	refit := make([]gguf.Refit, 3)
	fill := func(n int, from float32) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = from + float32(i)
		}
		return values
	}
	refit[1] = gguf.Refit{WO: fill(64*32, 1), WD: fill(64*64, 2), BO: fill(64, 3), BD: fill(64, 4), WU: fill(64*64, 5), GA: fill(64, 6), GM: fill(64, 7)}
	out, _ := write(t, f, gguf.Subnet{Masks: m, Refit: refit}, gguf.WriteOptions{Type: "F32"})
	for name, want := range map[string][]float32{
		"blk.1.attn_output.weight": refit[1].WO, "blk.1.ffn_down.weight": refit[1].WD,
		"blk.1.attn_output.bias": refit[1].BO, "blk.1.ffn_down.bias": refit[1].BD, "blk.1.ffn_up.weight": refit[1].WU,
		"blk.1.attn_norm.weight": refit[1].GA, "blk.1.ffn_norm.weight": refit[1].GM,
	} {
		got, _, err := out.Float32(name)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	if refit, ok := out.KV().Bool("general.lathe.up_refitted"); !refit || !ok {
		t.Error("the file lacks the mark of a re-fitted W_U")
	}
	if refit, ok := out.KV().Bool("general.lathe.norms_refitted"); !refit || !ok {
		t.Error("the file lacks the mark of re-fitted norms")
	}
	if out.Has("blk.0.attn_output.bias") {
		t.Error("a layer without re-fitted bias has one")
	}
}

// The output biases of dropped blocks add up in the MLP output of the layer before.
func TestBiasOfDroppedBlocksIsFolded(t *testing.T) {
	model := gguftest.Tiny("llama")
	model.OutBias = true
	f := gguftest.Open(t, model)
	read := func(name string) []float32 {
		v, _, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	out, report := write(t, f, gguf.Subnet{Masks: dropAttention(dropLayer(subnet.Dense(geometryOf(t, f)), 1), 2)}, gguf.WriteOptions{})
	got, _, err := out.Float32("blk.0.ffn_down.bias")
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		want := read("blk.0.ffn_down.bias")[i] + read("blk.1.attn_output.bias")[i] + read("blk.1.ffn_down.bias")[i] + read("blk.2.attn_output.bias")[i]
		if math.Abs(float64(got[i]-want)) > 1e-6 {
			t.Fatalf("number %d is %v, want %v", i, got[i], want)
		}
	}
	if len(report.Zeroed) != 0 || out.Has("blk.1.attn_output.bias") {
		t.Errorf("unexpected: %+v", report)
	}
}

func TestCutKeepsStoredBytes(t *testing.T) {
	model := gguftest.Tiny("llama")
	model.Type = gguf.Q8_0
	f := gguftest.Open(t, model)
	m := set(subnet.Dense(geometryOf(t, f)), 0, func(l *subnet.Layer) { l.Channels = subnet.Of(128, 1, 2, 3, 7) })
	out, report := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{})
	from, err := f.Read("blk.0.ffn_up.weight")
	if err != nil {
		t.Fatal(err)
	}
	got, err := out.Read("blk.0.ffn_up.weight")
	if err != nil {
		t.Fatal(err)
	}
	row := len(from) / 128
	if want := slices.Concat(from[row:4*row], from[7*row:8*row]); !slices.Equal(got, want) {
		t.Error("rows that only moved were converted")
	}
	want := []gguf.Fallback{{Tensor: "blk.0.ffn_down.weight", Want: "Q8_0", Got: "F16", Reason: "rows of 4 are not a multiple of 32"}}
	if diff := cmp.Diff(want, report.Fallbacks); diff != "" {
		t.Error(diff)
	}
}

func TestMetadata(t *testing.T) {
	model := gguftest.Tiny("llama")
	model.Edit = func(kv *gguf.KV) {
		for key, value := range map[string]any{
			"llama.some.list": []float32{1, 2, 3}, "llama.other.list": []uint32{1, 2}, "general.lathe.ratio": 0.9,
			"general.tags": []string{"a", "b"}, "general.parameter_count": uint64(1), "general.file_type": uint32(1),
		} {
			if err := kv.Set(key, value); err != nil {
				panic(err)
			}
		}
	}
	f := gguftest.Open(t, model)
	m := everySecondChannel(dropLayer(subnet.Dense(geometryOf(t, f)), 1), 0, 0)
	out, report := write(t, f, gguf.Subnet{Masks: m, Provenance: map[string]any{"calibration": "some text", "windows": 4}}, gguf.WriteOptions{Type: "Q8_0"})
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := f.SHA256(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"general.architecture":           "deci",
		"deci.block_count":               uint32(2),
		"deci.feed_forward_length":       []int32{64, 128},
		"deci.attention.head_count":      []int32{4, 4},
		"deci.attention.head_count_kv":   []int32{2, 2},
		"deci.attention.key_length":      uint32(16),
		"deci.some.list":                 []float32{1, 3},
		"deci.other.list":                []uint32{1, 2},
		"general.tags":                   []string{"a", "b"},
		"general.file_type":              uint32(7),
		"general.parameter_count":        uint64(report.TensorBytes-report.ByType["Q8_0"])/4 + uint64(report.ByType["Q8_0"])/34*32,
		"general.quantization_version":   uint32(2),
		"general.lathe.source":           "llama.gguf",
		"general.lathe.source_sha256":    hash,
		"general.lathe.masks":            string(text),
		"general.lathe.ratio":            m.Size().Ratio,
		"general.lathe.calibration":      "some text",
		"general.lathe.windows":          int64(4),
		"general.lathe.parent.ratio":     0.9,
		"llama.feed_forward_length":      nil,
		"general.lathe.source_sha256_of": nil,
	} {
		got, _ := out.KV().Value(key)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	for _, key := range f.KV().Keys() {
		if !strings.HasPrefix(key, "tokenizer.") {
			continue
		}
		want, _ := f.KV().Value(key)
		got, _ := out.KV().Value(key)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	c, err := out.Config()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 64}, {Heads: 4, KVHeads: 2, FFN: 128}}, c.Layers); diff != "" {
		t.Error(diff)
	}
}

func TestArchitectures(t *testing.T) {
	drop := func(m subnet.Masks) subnet.Masks { return dropLayer(m, 1) }
	narrow := func(m subnet.Masks) subnet.Masks { return everySecondChannel(m, 1, 0) }
	for _, test := range []struct {
		source string
		masks  func(subnet.Masks) subnet.Masks
		biases bool
		want   string
	}{
		{"llama", drop, false, "llama"}, {"llama", drop, true, "llama"}, {"llama", narrow, false, "deci"},
		{"qwen2", drop, false, "qwen2"}, {"qwen2", drop, true, "deci"}, {"qwen2", narrow, false, "deci"},
		{"deci", drop, false, "deci"}, {"openelm", narrow, false, "openelm"},
		{"qwen3", drop, false, "qwen3"}, {"qwen3", narrow, false, "qwen3"}, {"qwen3 tied", drop, false, "qwen3"}, {"qwen3 tied", narrow, false, "openelm"},
	} {
		family, tied := strings.CutSuffix(test.source, " tied")
		model := gguftest.Tiny(family)
		model.Tied = model.Tied || tied
		f := gguftest.Open(t, model)
		s := gguf.Subnet{Masks: test.masks(subnet.Dense(geometryOf(t, f)))}
		if test.biases {
			s.Refit = randomRefit(t, f, s.Masks, true)
		}
		if _, report := write(t, f, s, gguf.WriteOptions{}); report.Arch != test.want {
			t.Errorf("%+v: written as %s", test, report.Arch)
		}
	}
}

// A number that a type cannot hold is stored in a wider one; re-fitted numbers likewise.
func TestNumbersBeyondTheType(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outlier.gguf")
	if err := gguftest.WriteOutlier(path, -1e5); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	m := subnet.Dense(geometryOf(t, f))
	refit := make([]gguf.Refit, m.Layers())
	refit[0].WD = make([]float32, 64*128)
	refit[0].WD[5] = 2e5
	for _, test := range []struct {
		typ   string
		refit []gguf.Refit
		want  map[string]gguf.Type
	}{
		{"F16", nil, map[string]gguf.Type{gguftest.Outlier: gguf.F32, "blk.0.ffn_down.weight": gguf.F16}},
		{"F16", refit, map[string]gguf.Type{gguftest.Outlier: gguf.F32, "blk.0.ffn_down.weight": gguf.F32, "blk.2.ffn_down.weight": gguf.F16}},
		{"Q8_0", refit, map[string]gguf.Type{gguftest.Outlier: gguf.Q8_0}},
		{"BF16", refit, map[string]gguf.Type{gguftest.Outlier: gguf.BF16}},
	} {
		out, report := write(t, f, gguf.Subnet{Masks: m, Refit: test.refit}, gguf.WriteOptions{Type: test.typ})
		checkReport(t, out, report)
		fallbacks := 0
		for name, want := range test.want {
			got, _ := out.Tensor(name)
			if got.Type != want {
				t.Errorf("%s: %s is %s, want %s", test.typ, name, got.Type, want)
			}
			if want.String() != test.typ {
				fallbacks++
			}
			values, _, err := out.Float32(name)
			if err != nil || slices.ContainsFunc(values, func(v float32) bool { return v-v != 0 }) {
				t.Errorf("%s: %s is not finite, error %v", test.typ, name, err)
			}
		}
		if len(report.Fallbacks) != fallbacks {
			t.Errorf("%s: %+v", test.typ, report.Fallbacks)
		}
	}
}
