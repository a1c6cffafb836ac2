package subnet

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// MaxText bounds the text form [ParseMasks] reads, in bytes.
const MaxText = 64 << 20

const textHeader = "lathe-masks 1"

// MarshalText writes m in its text form, one line per layer:
//
//	lathe-masks 1
//	model arch=llama hidden=576 vocab=49152 head=64 tied
//	layer 0 heads=all/9 groups=3 mlp=0-31,64-1535/1536
//	layer 1 heads=0-5/9 groups=3 mlp=none/1536 vo=all;0-47;all
//
// A set is written as by [Set.String], followed by a slash and its N; qk and vo
// list one set per KV group and are left out where all channels are kept. Where
// not all of the vocabulary is kept, the line of [Masks.VocabText] is before the
// first layer.
// Readers ignore empty lines and lines that start with #.
func (m Masks) MarshalText() ([]byte, error) { return m.text(Set.String) }

// CompactText writes m in its text form with sets as by [Set.Compact], which
// is several times shorter for scattered units. [ParseMasks] reads both.
func (m Masks) CompactText() ([]byte, error) { return m.text(Set.Compact) }

// text writes m in its text form with sets written by a function.
func (m Masks) text(write func(Set) string) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	g := m.geometry
	fmt.Fprintf(&b, "%s\nmodel arch=%s hidden=%d vocab=%d head=%d", textHeader, cleanArch(g.Arch), g.Hidden, g.Vocab, g.HeadDim)
	if g.Positions > 0 {
		fmt.Fprintf(&b, " positions=%d", g.Positions)
	}
	for _, f := range g.flags() {
		if *f.on {
			b.WriteString(" " + f.name)
		}
	}
	b.WriteByte('\n')
	if line := m.VocabText(); line != "" {
		b.WriteString(line + "\n")
	}
	for i := range m.layers {
		b.WriteString(m.layerText(i, write))
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// LayerText returns the line of layer i in the text form of m.
func (m Masks) LayerText(i int) string { return m.layerText(i, Set.String) }

func (m Masks) layerText(i int, write func(Set) string) string {
	var b strings.Builder
	g, l := m.geometry.Layers[i], m.layers[i]
	fmt.Fprintf(&b, "layer %d heads=%s/%d groups=%d mlp=%s/%d", i, write(l.Heads), g.Heads, g.KVHeads, write(l.Channels), g.FFN)
	for _, in := range []struct {
		kind Kind
		sets []Set
	}{{QK, l.QK}, {VO, l.VO}} {
		for j, s := range in.sets {
			if j == 0 {
				fmt.Fprintf(&b, " %v=%s", in.kind, write(s))
			} else {
				b.WriteString(";" + write(s))
			}
		}
	}
	return b.String()
}

// UnmarshalText reads the text form and the geometry in it.
func (m *Masks) UnmarshalText(text []byte) error {
	read, err := parse(nil, text)
	if err != nil {
		return err
	}
	*m = read
	return nil
}

// ParseMasks reads the text form of masks for a model. Errors about the form wrap
// [ErrSyntax] and name the line. Errors about masks that do not fit the model
// wrap [ErrInvalid] and name the layer.
func ParseMasks(g *Geometry, text []byte) (Masks, error) {
	if err := g.Validate(); err != nil {
		return Masks{}, err
	}
	return parse(g, text)
}

// ParseLayer reads one line of the text form for layer i of a model.
func ParseLayer(g *Geometry, i int, line string) (Layer, error) {
	n, l, lg, err := parseLayer(g.HeadDim, line)
	switch {
	case err != nil:
		return Layer{}, err
	case n != i:
		return Layer{}, fmt.Errorf("%w: layer %d instead of layer %d", ErrInvalid, n, i)
	case lg != g.Layers[i]:
		return Layer{}, fmt.Errorf("%w: layer %d has %+v, the model has %+v", ErrInvalid, i, lg, g.Layers[i])
	}
	if err := l.Validate(lg, g.HeadDim); err != nil {
		return Layer{}, fmt.Errorf("%w: layer %d: %w", ErrInvalid, i, err)
	}
	return l, nil
}

// parse reads masks and their geometry, which must be want unless that is nil.
func parse(want *Geometry, text []byte) (Masks, error) {
	if len(text) > MaxText {
		return Masks{}, fmt.Errorf("%w: %d bytes, more than %d", ErrSyntax, len(text), MaxText)
	}
	var g Geometry
	var layers []Layer
	vocab := ""
	seen := 0 // lines other than comments
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line := strings.TrimSpace(string(line))
		if line == "" || line[0] == '#' {
			continue
		}
		seen++
		var err error
		switch {
		case seen == 1:
			if line != textHeader {
				err = fmt.Errorf("%w: not %q", ErrSyntax, textHeader)
			}
		case seen == 2:
			err = g.parseModel(line)
		case strings.HasPrefix(line, vocabLine) && vocab == "" && len(layers) == 0:
			vocab, seen = line, seen-1
			_, err = ParseVocab(g.Vocab, line)
		default:
			err = g.appendLayer(&layers, line)
		}
		if err != nil {
			return Masks{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if seen < 3 {
		return Masks{}, fmt.Errorf("%w: the text ends before the first layer", ErrSyntax)
	}
	if want == nil {
		want = &g
	} else if err := sameModel(want, &g); err != nil {
		return Masks{}, err
	}
	m, err := New(want, layers)
	if err != nil {
		return Masks{}, err
	}
	kept, err := ParseVocab(want.Vocab, vocab)
	if err != nil {
		return Masks{}, err
	}
	return m.WithVocab(kept)
}

// sameModel returns an error about how the geometry of a text differs from want.
func sameModel(want, got *Geometry) error {
	if want.Equal(got) {
		return nil
	}
	if len(want.Layers) != len(got.Layers) {
		return fmt.Errorf("%w: masks of %d layers, the model has %d", ErrInvalid, len(got.Layers), len(want.Layers))
	}
	for i := range want.Layers {
		if want.Layers[i] != got.Layers[i] {
			return fmt.Errorf("%w: layer %d has %+v, the model has %+v", ErrInvalid, i, got.Layers[i], want.Layers[i])
		}
	}
	return fmt.Errorf("%w: masks for another model: %s, not %s", ErrInvalid, got.line(), want.line())
}

func (g *Geometry) line() string {
	return fmt.Sprintf("%s with hidden %d, vocabulary %d, heads of %d", g.Arch, g.Hidden, g.Vocab, g.HeadDim)
}

type flag struct {
	name string
	on   *bool
}

func (g *Geometry) flags() []flag {
	return []flag{
		{"tied", &g.Tied}, {"qkv-bias", &g.QKVBias}, {"qk-norm", &g.QKNorm},
		{"out-bias", &g.OutBias}, {"half-split", &g.HalfSplit}, {"rope-freqs", &g.RopeFreqs},
	}
}

func (g *Geometry) parseModel(line string) error {
	fields := strings.Fields(line)
	if fields[0] != "model" {
		return fmt.Errorf("%w: not a model line", ErrSyntax)
	}
fields:
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		for _, known := range g.flags() {
			if f == known.name {
				*known.on = true
				continue fields
			}
		}
		var err error
		switch key {
		case "arch":
			if g.Arch = value; cleanArch(value) != value {
				err = fmt.Errorf("%w: architecture %.40q", ErrSyntax, value)
			}
		case "hidden":
			g.Hidden, err = parseCount(key, value, MaxUnits)
		case "vocab":
			g.Vocab, err = parseCount(key, value, MaxVocab)
		case "head":
			g.HeadDim, err = parseCount(key, value, MaxUnits)
		case "positions":
			g.Positions, err = parseCount(key, value, MaxPositions)
		default:
			err = fmt.Errorf("%w: unknown field %.40q", ErrSyntax, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *Geometry) appendLayer(layers *[]Layer, line string) error {
	n, l, lg, err := parseLayer(g.HeadDim, line)
	if err != nil {
		return err
	}
	if n != len(*layers) {
		return fmt.Errorf("%w: layer %d instead of layer %d", ErrSyntax, n, len(*layers))
	}
	if n >= MaxLayers {
		return fmt.Errorf("%w: more than %d layers", ErrSyntax, MaxLayers)
	}
	*layers = append(*layers, l)
	g.Layers = append(g.Layers, lg)
	return nil
}

func parseLayer(headDim int, line string) (n int, l Layer, g LayerGeometry, err error) {
	fields := strings.Fields(line)
	fail := func(format string, args ...any) (int, Layer, LayerGeometry, error) {
		return 0, Layer{}, LayerGeometry{}, fmt.Errorf("%w: "+format, append([]any{ErrSyntax}, args...)...)
	}
	if len(fields) < 5 || fields[0] != "layer" {
		return fail("not a layer line: layer N heads=… groups=… mlp=…")
	}
	if n, err = parseCount("layer", fields[1], MaxLayers); err != nil {
		return 0, Layer{}, g, err
	}
	seen := map[string]bool{}
	var inHead [2]string
	for _, f := range fields[2:] {
		key, value, _ := strings.Cut(f, "=")
		if seen[key] {
			return fail("layer %d: %.40q occurs twice", n, key)
		}
		seen[key] = true
		switch key {
		case "heads":
			l.Heads, g.Heads, err = parseCounted(value)
		case "mlp":
			l.Channels, g.FFN, err = parseCounted(value)
		case "groups":
			g.KVHeads, err = parseCount(key, value, MaxUnits)
		case "qk":
			inHead[0] = value
		case "vo":
			inHead[1] = value
		default:
			return fail("layer %d: unknown field %.40q", n, key)
		}
		if err != nil {
			return 0, Layer{}, g, fmt.Errorf("layer %d: %s: %w", n, key, err)
		}
	}
	if !seen["heads"] || !seen["groups"] || !seen["mlp"] {
		return fail("layer %d: heads, groups and mlp are required", n)
	}
	if l.QK, err = parseGroups(headDim, g.KVHeads, inHead[0]); err == nil {
		l.VO, err = parseGroups(headDim, g.KVHeads, inHead[1])
	}
	if err != nil {
		return 0, Layer{}, g, fmt.Errorf("layer %d: %w", n, err)
	}
	return n, l, g, nil
}

// parseCounted reads a set and its N, "SET/N".
func parseCounted(text string) (Set, int, error) {
	set, count, ok := strings.Cut(text, "/")
	if !ok {
		return Set{}, 0, fmt.Errorf("%w: no /N after the units", ErrSyntax)
	}
	n, err := parseCount("units", count, MaxUnits)
	if err != nil {
		return Set{}, 0, err
	}
	s, err := ParseSet(n, set)
	return s, n, err
}

func parseGroups(headDim, groups int, text string) ([]Set, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ";")
	if len(parts) != groups {
		return nil, fmt.Errorf("%w: in-head channels of %d KV groups, the layer has %d", ErrInvalid, len(parts), groups)
	}
	sets := make([]Set, groups)
	for i, part := range parts {
		var err error
		if sets[i], err = ParseSet(headDim, part); err != nil {
			return nil, fmt.Errorf("KV group %d: %w", i, err)
		}
	}
	return sets, nil
}

func parseCount(what, text string, most int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || int(n) > most {
		return 0, fmt.Errorf("%w: %s %.20q is not a count up to %d", ErrSyntax, what, text, most)
	}
	return int(n), nil
}

// cleanArch returns arch without characters that separate fields.
func cleanArch(arch string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '=' || r == 0x7f || r > 0x7e {
			return -1
		}
		return r
	}, arch)
}
