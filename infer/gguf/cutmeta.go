package gguf

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// provenancePrefix is that of the keys about how a file was made; those of the source move under parentPrefix.
const (
	provenancePrefix = "general.lathe."
	parentPrefix     = provenancePrefix + "parent."
)

// upRefittedKey is true in files whose W_U were re-fitted besides W_D.
const upRefittedKey = provenancePrefix + "up_refitted"

// normsRefittedKey is true in files where gains of norms were changed.
const normsRefittedKey = provenancePrefix + "norms_refitted"

// innerRefittedKey is true in files whose matrices before the output matrices, W_U aside, were changed.
const innerRefittedKey = provenancePrefix + "inner_refitted"

// mixedKey is true in files whose matrices have types of their own, [Subnet].Types.
const mixedKey = provenancePrefix + "types_mixed"

// metadata returns the metadata of the file: that of the source with the file's own counts, and the provenance.
func (p *plan) metadata(sourceHash string) (*KV, error) {
	from, err := p.src.trimmed(p.vocab)
	if err != nil {
		return nil, err
	}
	kv := &KV{}
	set := func(key string, value any) {
		if err == nil {
			err = kv.Set(key, value)
		}
	}
	for _, key := range from.Keys() {
		value, _ := from.Value(key)
		switch rest, own := strings.CutPrefix(key, p.config.Arch+"."); {
		case own:
			set(p.to.Arch+"."+rest, p.ofLayers(value))
		case strings.HasPrefix(key, parentPrefix):
		case strings.HasPrefix(key, provenancePrefix):
			if text, ok := value.(string); ok && filepath.IsAbs(text) { // files carry no path of a machine
				value = filepath.Base(text)
			}
			set(parentPrefix+strings.TrimPrefix(key, provenancePrefix), value)
		default:
			set(key, value)
		}
	}
	set("general.architecture", p.to.Arch)
	if size := p.to.Arch + ".vocab_size"; p.vocab != nil && kv.Has(size) {
		set(size, uint32(len(p.vocab)))
	}
	p.shape(func(key string, value any) { set(p.to.Arch+"."+key, value) })
	if t, ok := FileType(p.tensors()); ok && (p.opts.Type != "" || p.subnet.Types != nil || !from.Has("general.file_type")) {
		set("general.file_type", t)
	}
	if _, ok := from.Uint("general.parameter_count"); ok {
		var n int64
		for _, j := range p.targets {
			n += j.Elements()
		}
		set("general.parameter_count", uint64(n))
	}
	if IsQuantized(p.tensors()) {
		set("general.quantization_version", uint32(QuantizationVersion))
	}

	text, textErr := p.subnet.Masks.MarshalText()
	if textErr != nil {
		return nil, textErr
	}
	set(provenancePrefix+"source", filepath.Base(p.src.path))
	set(provenancePrefix+"source_sha256", sourceHash)
	set(provenancePrefix+"masks", string(text))
	if slices.ContainsFunc(p.subnet.Refit, func(r Refit) bool { return r.WU != nil }) {
		set(upRefittedKey, true)
	}
	if slices.ContainsFunc(p.subnet.Refit, Refit.Inner) {
		set(innerRefittedKey, true)
	}
	if slices.ContainsFunc(p.subnet.Refit, func(r Refit) bool { return r.GA != nil || r.GM != nil }) {
		set(normsRefittedKey, true)
	}
	if p.subnet.Types != nil && p.opts.Type == "" {
		set(mixedKey, true)
	}
	set(provenancePrefix+"ratio", p.subnet.Masks.Size().Ratio)
	for _, key := range slices.Sorted(maps.Keys(p.subnet.Provenance)) {
		set(provenancePrefix+key, p.subnet.Provenance[key])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSubnet, err)
	}
	return kv, nil
}

// ofLayers selects the values of the layers in the file from a list with one value for each layer of the source.
func (p *plan) ofLayers(value any) any {
	list := reflect.ValueOf(value)
	if list.Kind() != reflect.Slice || list.Len() != len(p.config.Layers) {
		return value
	}
	kept := reflect.MakeSlice(list.Type(), 0, len(p.cut.Layers))
	for _, l := range p.cut.Layers {
		kept = reflect.Append(kept, list.Index(l.Source))
	}
	return kept.Interface()
}

// shape sets the keys of the counts.
func (p *plan) shape(set func(key string, value any)) {
	set("block_count", uint32(len(p.cut.Layers)))
	perLayer := func(key string, n func(subnet.CutLayer) int) {
		if !p.to.PerLayer() {
			set(key, uint32(n(p.cut.Layers[0])))
			return
		}
		list := make([]int32, len(p.cut.Layers))
		for i, l := range p.cut.Layers {
			list[i] = int32(n(l))
		}
		set(key, list)
	}
	perLayer("feed_forward_length", func(l subnet.CutLayer) int { return len(l.Channels) })
	perLayer("attention.head_count", func(l subnet.CutLayer) int { return len(l.Heads) })
	perLayer("attention.head_count_kv", func(l subnet.CutLayer) int { return len(l.Groups) })
	set("attention.key_length", uint32(p.cut.HeadDim))
	set("attention.value_length", uint32(p.cut.HeadDim))
	if p.config.RopeDims > 0 {
		set("rope.dimension_count", uint32(p.cut.HeadDim))
	}
}
