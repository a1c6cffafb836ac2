package levels

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

const testKey = "00112233445566778899aabbccddeeff"

// tinyGeometry is the shape of the tiny model.
func tinyGeometry(tb testing.TB) *subnet.Geometry {
	tb.Helper()
	config, err := gguftest.Open(tb, gguftest.Tiny("llama")).Config()
	if err != nil {
		tb.Fatal(err)
	}
	g := config.Geometry()
	return &g
}

// ladder writes a valid ladder of a slot and returns its content.
func ladder(tb testing.TB, g *subnet.Geometry, slot int) []byte {
	tb.Helper()
	n := units(g, slot)
	var weights [][]float32
	var sets []subnet.Set
	var lost []float64
	for i, count := range counts(g, slot, Options{Steps: 4, Granularity: 8}) {
		set := subnet.Range(n, 0, count)
		_, columns := levelOf(g, slot, set)
		var w []float32
		if i > 0 {
			w = make([]float32, columns*g.Hidden)
			for k := range w {
				w[k] = float32(k) / 7
			}
		}
		weights, sets, lost = append(weights, w), append(sets, set), append(lost, float64(i)/4)
	}
	path := filepath.Join(tb.TempDir(), "ladder")
	if err := writeLadder(path, testKey, slot, weights, sets, lost); err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// assemble returns a ladder file of a header and what follows it, with its length and checksum.
func assemble(header, rest []byte) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(header)))
	body = append(append(body, header...), rest...)
	data := binary.LittleEndian.AppendUint32([]byte(fileMagic), crc32.Checksum(body, castagnoli()))
	return append(data, body...)
}

// parts are the inverse of assemble.
func parts(data []byte) (header, rest []byte) {
	n := binary.LittleEndian.Uint32(data[fileStart-4:])
	return data[fileStart:][:n], data[fileStart+int(n):]
}

// FuzzLadder reads altered files of levels, mapped and not: with a checksum that is right, so that what it protects is altered too.
// They are refused as damaged, by name, or read alike and within their bounds.
func FuzzLadder(f *testing.F) {
	g := tinyGeometry(f)
	for slot := range 2 {
		header, rest := parts(ladder(f, g, slot))
		f.Add(header, rest, slot, false)
		f.Add(header, rest[:len(rest)-1], slot, false)
		f.Add(header, rest, 1-slot, false)
		f.Add([]byte(strings.Replace(string(header), `"Floats":0`, `"Floats":-4`, 1)), rest, slot, false)
		f.Add([]byte(strings.Replace(string(header), `/`, `/9`, 1)), rest, slot, false)
		f.Add(ladder(f, g, slot), []byte(nil), slot, true)
	}
	f.Fuzz(func(t *testing.T, header, rest []byte, slot int, raw bool) {
		data := assemble(header, rest)
		if raw {
			data = header
		}
		path := filepath.Join(t.TempDir(), "fuzzed.levels")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		slot &= 1
		var all [2][][]float32
		var errs [2]error
		for i, mapped := range []mapper{mapFile, notMapped} {
			file, err := openLadderAs(path, testKey, g, slot, mapped)
			if errs[i] = err; err != nil {
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v", err)
				}
				continue
			}
			for level := range file.ladder {
				w, err := file.read(level)
				if err != nil {
					t.Error(err)
				}
				all[i] = append(all[i], w)
			}
			if err := file.close(); err != nil {
				t.Error(err)
			}
		}
		if (errs[0] == nil) != (errs[1] == nil) || len(all[0]) != len(all[1]) {
			t.Fatalf("mapped: %v, read: %v", errs[0], errs[1])
		}
		for level := range all[0] {
			if !slices.EqualFunc(all[0][level], all[1][level], func(a, b float32) bool { return a == b || a != a && b != b }) {
				t.Errorf("level %d is read differently", level)
			}
		}
	})
}

func notMapped(*os.File, int64) ([]byte, error) { return nil, errors.ErrUnsupported }

// TestDamagedLadder checks the errors of damaged files.
func TestDamagedLadder(t *testing.T) {
	g := tinyGeometry(t)
	good := ladder(t, g, 1)
	header, rest := parts(good)
	replace := func(old, by string) []byte {
		return assemble([]byte(strings.Replace(string(header), old, by, 1)), rest)
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	long := slices.Clone(good)
	binary.LittleEndian.PutUint32(long[fileStart-4:], 1<<31)
	for want, data := range map[string][]byte{
		"its start of":              good[:5],
		"magic":                     append([]byte("x"), good[1:]...),
		"header length 2147483648":  long,
		"checksum":                  flipped,
		"header.Key":                replace(testKey, "f"+testKey[1:]),
		"header.Slot 3":             replace(`"Slot":1`, `"Slot":3`),
		"header.Levels: 0":          assemble([]byte(`{"Key":"`+testKey+`","Slot":1}`), rest),
		"header.Levels: more than":  assemble([]byte(`{"Key":"`+testKey+`","Slot":1,"Levels":[`+strings.Repeat("{},", 1000)+`{}]}`), rest),
		"header.Levels[0].Units":    replace(`/`, `/9`),
		"header.Levels[0].Floats 8": replace(`"Floats":0`, `"Floats":8`),
		"header describes":          assemble(header, rest[4:]),
		"header: ":                  assemble(header[:20], rest),
	} {
		path := filepath.Join(t.TempDir(), "damaged.levels")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openLadder(path, testKey, g, 1); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path+": "+want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

// TestCutOffLadder cuts a file off while it is mapped: reading it is an error, not the end of the program.
func TestCutOffLadder(t *testing.T) {
	g := tinyGeometry(t)
	path := filepath.Join(t.TempDir(), "cut.levels")
	if err := os.WriteFile(path, ladder(t, g, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLadder(path, testKey, g, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(1); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// FuzzMoments reads altered files of moments, and fits as a worker gets them. They are refused, or have the size of the module.
func FuzzMoments(f *testing.F) {
	g := tinyGeometry(f)
	n := g.OutputColumns(1, subnet.MLP)
	mo := &decoder.Moments{N: n, Tokens: 7, H: make([]float64, n*n), Mean: make([]float64, n)}
	for i := range mo.H {
		mo.H[i] = float64(i)
	}
	good := filepath.Join(f.TempDir(), "moments")
	if err := writeMoments(good, mo); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	fit := Fit{Slot: 3, Key: testKey, Lambda: 0.1, Counts: []int{128, 64, 0}, Tokens: 7}
	for i := range 128 {
		fit.Order = append(fit.Order, 127-i)
	}
	settings, err := json.Marshal(fit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, settings)
	f.Add(data[:len(data)-8], []byte(`{"Slot":-1}`))
	f.Add([]byte(momentsMagic), []byte(`{"Slot":3,"Order":[0,0],"Counts":[2,3]}`))
	path := filepath.Join(f.TempDir(), "altered")
	f.Fuzz(func(t *testing.T, data, settings []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readMoments(path, n); err == nil {
			if got.N != n || len(got.H) != n*n || len(got.Mean) != n || got.Tokens < 1 {
				t.Errorf("moments of %d inputs and %d tokens", got.N, got.Tokens)
			}
		} else if !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		var fit Fit
		if json.Unmarshal(settings, &fit) != nil || fit.check(g) != nil {
			return
		}
		if fit.bytes(g) <= 0 {
			t.Errorf("%d bytes", fit.bytes(g))
		}
		for i, count := range fit.Counts {
			if fit.keep(i).Len() != count {
				t.Errorf("level %d keeps %d units, not %d", i, fit.keep(i).Len(), count)
			}
		}
	})
}
