package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
	"github.com/lathe-llm/lathe/search/space"
)

func encoded(tb testing.TB, v any) []byte {
	tb.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func validSpec() Spec {
	f := File{strings.Repeat("0a", 32), 5}
	return Spec{Protocol: protocol, Search: "0123456789abcdef", Version: "v1", Device: "go", Fitness: "kl", Model: f, Text: f, Levels: []File{f}}
}

// someCandidates are a choice of levels, masks, and both with modules of a subnet made by hand.
func someCandidates(tb testing.TB, l *searchtest.Landscape) []search.Candidate {
	tb.Helper()
	smallest, mixed := l.Levels.Smallest(), l.Levels.Dense()
	for slot := range smallest {
		smallest[slot]--
	}
	base := &space.Base{Masks: subnet.Dense(l.Geometry), Weights: strings.Repeat("f0", 16)}
	mixed[1], mixed[3] = space.Exact, 2
	var out []search.Candidate
	for _, c := range []search.Candidate{{Choice: smallest}, {Choice: mixed, Base: base}, {Masks: subnet.Dense(l.Geometry)}, {Masks: subnet.Dense(l.Geometry), Base: base}} {
		if c.Choice != nil {
			masks, err := l.Levels.MasksOver(c.Choice, c.Base)
			if err != nil {
				tb.Fatal(err)
			}
			c.Masks = masks
		}
		out = append(out, c)
	}
	return out
}

// TestTaskRoundTrip sends candidates of all kinds. They arrive as they are, with equal keys, and no two have the same key.
func TestTaskRoundTrip(t *testing.T) {
	l := searchtest.New(searchtest.Options{Seed: 1})
	all := someCandidates(t, l)
	tier := search.Tier{Tokens: 64, Draw: math.MaxUint64}
	file := File{strings.Repeat("ab", 32), 3}
	sent, err := newTask(all, tier, func(string) (File, error) { return file, nil })
	if err != nil {
		t.Fatal(err)
	}
	task, err := decodeTask(encoded(t, sent))
	if err != nil {
		t.Fatal(err)
	}
	got, err := task.candidates(l.Geometry, l.Levels)
	if err != nil {
		t.Fatal(err)
	}
	if task.Tier != tier || len(task.Bases) != 1 || *task.Bases[0].File != file {
		t.Errorf("tier %v, bases %v", task.Tier, task.Bases)
	}
	keys := map[string]bool{}
	for i, c := range got {
		if !c.Masks.Equal(all[i].Masks) || !c.Choice.Equal(all[i].Choice) || (c.Base == nil) != (all[i].Base == nil) {
			t.Errorf("candidate %d: %v", i, c.Choice)
		}
		key := keyOf("identity", c, tier)
		if key != keyOf("identity", all[i], tier) || keys[key] {
			t.Errorf("candidate %d: key %s", i, key)
		}
		if key == keyOf("another", c, tier) || key == keyOf("identity", c, search.Tier{Tokens: 64, Draw: 1}) {
			t.Errorf("candidate %d: its key depends on the candidate alone", i)
		}
		keys[key] = true
	}
}

// TestResultRoundTrip sends scores: the bits arrive, NaN and infinity included.
func TestResultRoundTrip(t *testing.T) {
	for _, want := range []search.Score{
		{Fitness: 1. / 3, NLL: math.Pi, KL: 5e-324, Tokens: 1 << 40, Parts: []float64{0, math.Copysign(0, -1), 1e300}},
		{Fitness: math.NaN(), NLL: math.Inf(1), Tokens: 2},
	} {
		worker, got, err := decodeResult(encoded(t, newResult("w", want)))
		if err != nil || worker != "w" {
			t.Fatalf("worker %q, error %v", worker, err)
		}
		if !bytes.Equal(newResult("", got).Numbers, newResult("", want).Numbers) || got.Tokens != want.Tokens || len(got.Parts) != len(want.Parts) {
			t.Errorf("got %v, sent %v", got, want)
		}
	}
}

// TestInvalidMessages checks that errors name the field.
func TestInvalidMessages(t *testing.T) {
	spec := func(change func(*Spec)) []byte {
		s := validSpec()
		change(&s)
		return encoded(t, s)
	}
	taskOf := func(data []byte) error { _, err := decodeTask(data); return err }
	specOf := func(data []byte) error { _, err := decodeSpec(data); return err }
	statusOf := func(data []byte) error { _, err := decodeStatus(data); return err }
	failureOf := func(data []byte) error { _, err := decodeFailure(data); return err }
	productOf := func(data []byte) error { _, err := decodeProduct(data); return err }
	sliceOf := func(data []byte) error { _, _, err := decodeSlice(data); return err }
	resultOf := func(data []byte) error { _, _, err := decodeResult(data); return err }
	if err := specOf(spec(func(*Spec) {})); err != nil {
		t.Errorf("a valid search: %v", err)
	}
	for _, test := range []struct {
		want string
		read func([]byte) error
		data []byte
	}{
		{"Protocol 9", specOf, spec(func(s *Spec) { s.Protocol = 9 })},
		{"Search", specOf, spec(func(s *Spec) { s.Search = "../../etc" })},
		{"Model.SHA256", specOf, spec(func(s *Spec) { s.Model.SHA256 = "../" + s.Model.SHA256[3:] })},
		{"Text.Bytes", specOf, spec(func(s *Spec) { s.Text.Bytes = -1 })},
		{"Text.Bytes", specOf, spec(func(s *Spec) { s.Text.Bytes = math.MaxInt64 })},
		{"Weights", specOf, spec(func(s *Spec) { s.Weights = "f32\n" })},
		{"Levels[0].SHA256", specOf, spec(func(s *Spec) { s.Levels[0].SHA256 = strings.ToUpper(s.Levels[0].SHA256) })},
		{"Version", specOf, spec(func(s *Spec) { s.Version = "v1\x1b[2J" })},
		{"more than", specOf, make([]byte, maxSpec+1)},
		{"Levels has", specOf, spec(func(s *Spec) { s.Levels = make([]File, maxLevelFiles+1) })},
		{"Candidates has 0", taskOf, []byte(`{}`)},
		{"Candidates has 300", taskOf, encoded(t, task{Candidates: make([]taskCandidate, 300)})},
		{"Candidates[0] has neither", taskOf, []byte(`{"Candidates":[{}]}`)},
		{"Candidates[0].Base is 2 of 0", taskOf, []byte(`{"Candidates":[{"Bits":"AA==","Base":2}]}`)},
		{"Bases[0].Weights", taskOf, []byte(`{"Candidates":[{"Bits":"AA==","Base":1}],"Bases":[{"Weights":"../x","File":{}}]}`)},
		{"more than", taskOf, make([]byte, maxTask+1)},
		{"Piece.Kind", taskOf, []byte(`{"Piece":{"Kind":"../x"}}`)},
		{"Piece.Files[0].SHA256", taskOf, []byte(`{"Piece":{"Kind":"x","Files":[{"SHA256":"../x"}]}}`)},
		{"Piece.Spent", taskOf, []byte(`{"Piece":{"Kind":"x","Spent":1}}`)},
		{"Piece.Limit", taskOf, []byte(`{"Piece":{"Kind":"x","Limit":-1}}`)},
		{"Candidates and Piece", taskOf, []byte(`{"Piece":{"Kind":"x"},"Candidates":[{"Bits":"AA=="}]}`)},
		{"Phase 99", specOf, spec(func(s *Spec) { s.Phase = 99 })},
		{"Text is missing", specOf, spec(func(s *Spec) { s.Text = File{} })},
		{"Value has 0", productOf, []byte(`{"Worker":"w"}`)},
		{"Worker", productOf, []byte(`{"Worker":"../w","Value":1}`)},
		{"Files[0].Bytes", productOf, []byte(`{"Worker":"w","Value":1,"Files":[{"SHA256":"` + strings.Repeat("ab", 32) + `","Bytes":-1}]}`)},
		{"no line", sliceOf, make([]byte, 2*maxSliceHead)},
		{"Worker", sliceOf, []byte("{}\n")},
		{"Key", sliceOf, []byte("{\"Worker\":\"w\"}\n")},
		{"Offset", sliceOf, []byte("{\"Worker\":\"w\",\"Key\":\"" + strings.Repeat("0", keyDigits) + "\",\"Offset\":1}\n")},
		{"1 bytes at 0 of 0", sliceOf, []byte("{\"Worker\":\"w\",\"Key\":\"" + strings.Repeat("0", keyDigits) + "\"}\nx")},
		{"State", statusOf, []byte(`{"ID":"w","State":"root"}`)},
		{"ID", statusOf, []byte(`{"ID":"a.>","State":"idle"}`)},
		{"Seconds", statusOf, []byte(`{"ID":"w","State":"idle","Seconds":-1}`)},
		{"Key", failureOf, []byte(`{"Key":"x"}`)},
		{"Numbers has 8", resultOf, []byte(`{"Numbers":"AAAAAAAAAAA="}`)},
		{"Tokens", resultOf, encoded(t, result{Numbers: make([]byte, 24), Tokens: -1})},
	} {
		if err := test.read(test.data); !errors.Is(err, errMessage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v", test.want, err)
		}
	}
}

// FuzzMessages reads altered messages: they are refused as invalid, or what they hold is within the limits and can be sent again.
func FuzzMessages(f *testing.F) {
	l := searchtest.New(searchtest.Options{Seed: 1})
	sent, err := newTask(someCandidates(f, l), search.Tier{Tokens: 4}, func(string) (File, error) { return File{strings.Repeat("ab", 32), 3}, nil })
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range []any{validSpec(), sent, newResult("w", search.Score{Fitness: 1, Parts: []float64{1, 2}}), failure{"w", strings.Repeat("0", keyDigits), "x"}, Worker{ID: "w", State: Idle}} {
		f.Add(encoded(f, v))
	}
	f.Add([]byte(`{"Candidates":[{"Choice":[-1,99]}]}`))
	for _, v := range []any{task{Phase: 1, Piece: somePiece()}, product{"w", []byte("1"), []File{{strings.Repeat("ab", 32), 3}}}, partRequest{SHA256: strings.Repeat("ab", 32)}, sliceReply{Have: 3}} {
		f.Add(encoded(f, v))
	}
	slice, err := encodeSlice(partOfProduct{"w", strings.Repeat("0", keyDigits), File{strings.Repeat("ab", 32), 5}, 2}, []byte("abc"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slice)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeSpec(data); err == nil {
			if again, err := decodeSpec(encoded(t, s)); err != nil || !reflect.DeepEqual(again, s) {
				t.Errorf("%+v, again %+v: %v", s, again, err)
			}
		} else if !errors.Is(err, errMessage) {
			t.Error(err)
		}
		if p, err := decodeProduct(data); err == nil {
			if again, err := decodeProduct(encoded(t, p)); err != nil || !reflect.DeepEqual(again.Files, p.Files) {
				t.Errorf("%+v, again %+v: %v", p, again, err)
			}
		} else if !errors.Is(err, errMessage) {
			t.Error(err)
		}
		if p, body, err := decodeSlice(data); err == nil {
			if int64(len(body)) > p.File.Bytes-p.Offset || len(body) > sliceBytes || !validWorker(p.Worker) || !isHex(p.Key, keyDigits) {
				t.Errorf("%+v of %d bytes", p, len(body))
			}
			n := newIntake(dir)
			n.expect(p.Key, 1<<10)
			if have, err := n.take(data); err == nil && (have < 0 || have > p.File.Bytes) {
				t.Errorf("%+v: %d bytes are there", p, have)
			}
			n.forget(p.Key)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%+v: %d files are left: %v", p, len(left), err)
			}
		} else if !errors.Is(err, errMessage) {
			t.Error(err)
		}
		if task, err := decodeTask(data); err == nil && task.Piece != nil {
			if key := keyOfPiece("identity", *task.Piece); !isHex(key, keyDigits) || len(task.Candidates) > 0 || task.Piece.check() != nil {
				t.Errorf("%+v", task)
			}
		} else if err == nil {
			for _, levels := range []*space.Levels{l.Levels, nil} {
				got, err := task.candidates(l.Geometry, levels)
				if err != nil && !errors.Is(err, errMessage) {
					t.Error(err)
				}
				for _, c := range got {
					if c.Masks.Validate() != nil {
						t.Errorf("invalid masks of %v", c.Choice)
					}
				}
			}
		}
		if worker, s, err := decodeResult(data); err == nil && (len(s.Parts) > maxParts || len(worker) > maxText) {
			t.Errorf("%d parts of %q", len(s.Parts), worker)
		}
		if w, err := decodeStatus(data); err == nil && (w.Error != line(w.Error) || !validWorker(w.ID)) {
			t.Errorf("%+v", w)
		}
		if x, err := decodeFailure(data); err == nil && x.Error != line(x.Error) {
			t.Errorf("%+v", x)
		}
	})
}

// somePiece is a piece of work.
func somePiece() *Piece {
	return &Piece{Kind: "levels", Settings: []byte(`{"Slot":1}`), Files: []File{{strings.Repeat("ab", 32), 3}}, Spent: 1, Limit: 10}
}

// TestPieceKeys: no two pieces have the same key, and neither has one of another search.
func TestPieceKeys(t *testing.T) {
	keys := map[string]string{}
	add := func(name, identity string, change func(*Piece)) {
		p := somePiece()
		change(p)
		if err := p.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		key := keyOfPiece(identity, *p)
		if other, known := keys[key]; known {
			t.Errorf("%s and %s have the same key", name, other)
		}
		keys[key] = name
	}
	add("a piece", "identity", func(*Piece) {})
	add("of another search", "another", func(*Piece) {})
	add("of another kind", "identity", func(p *Piece) { p.Kind = "level" })
	add("with other settings", "identity", func(p *Piece) { p.Settings = []byte(`{"Slot":2}`) })
	add("with another number", "identity", func(p *Piece) { p.Number = 1 })
	add("with another file", "identity", func(p *Piece) { p.Files[0].SHA256 = strings.Repeat("cd", 32) })
	add("with two files", "identity", func(p *Piece) { p.Files = append(p.Files, p.Files[0]) })
}

// TestIntake sends files in parts: what is not asked for, is too large, or has another content than its hash is refused, and nothing of it stays. A part
// that comes twice or too early changes nothing.
func TestIntake(t *testing.T) {
	path, f, data := content(t)
	key, dir := strings.Repeat("0", keyDigits), filepath.Join(t.TempDir(), "in")
	n := newIntake(dir)
	send := func(worker string, at int64, part []byte) (int64, error) {
		message, err := encodeSlice(partOfProduct{worker, key, f, at}, part)
		if err != nil {
			t.Fatal(err)
		}
		return n.take(message)
	}
	part := func(at int64) []byte { return data[at:min(int64(len(data)), at+sliceBytes)] }
	if _, err := send("w", 0, part(0)); !errors.Is(err, errUnwanted) {
		t.Errorf("a file that nobody wants: %v", err)
	}
	n.expect(key, f.Bytes-1)
	if _, err := send("w", 0, part(0)); err == nil || !strings.Contains(err.Error(), "may result in") {
		t.Errorf("a file beyond the limit: %v", err)
	}
	n.expect(key, f.Bytes)
	for _, at := range []int64{sliceBytes, 0, 0, 2 * sliceBytes, sliceBytes} {
		if _, err := send("w", at, part(at)); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := send("other", 0, part(0)); err != nil || have != sliceBytes {
		t.Errorf("the same file of another worker: %d bytes, %v", have, err)
	}
	have := int64(2 * sliceBytes)
	for have < f.Bytes {
		next, err := send("w", have, part(have))
		if err != nil || next <= have {
			t.Fatalf("%d bytes after %d: %v", next, have, err)
		}
		have = next
	}
	name := productName(key, "w", f)
	if got, err := HashFile(t.Context(), n.find(name)); err != nil || got != f {
		t.Errorf("%v, %v", got, err)
	}
	other := File{strings.Repeat("ab", 32), 1}
	message, err := encodeSlice(partOfProduct{"w", key, other, 0}, []byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.take(message); err == nil || !strings.Contains(err.Error(), "may result in") {
		t.Errorf("a file beyond the limit, after one that is whole: %v", err)
	}
	if err := os.Remove(n.find(name)); err != nil {
		t.Fatal(err)
	}
	n.spent(name)
	for at := int64(0); at < f.Bytes; at += sliceBytes {
		wrong := bytes.Clone(part(at))
		wrong[0] ^= 1
		if _, err := send("x", at, wrong); at+sliceBytes >= f.Bytes && !errors.Is(err, errAltered) || at+sliceBytes < f.Bytes && err != nil {
			t.Errorf("altered at %d: %v", at, err)
		}
	}
	n.forget(key)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestIntakeForgets has files of a piece come while it is wanted, while its product is taken, and after it was forgotten: none stays.
func TestIntakeForgets(t *testing.T) {
	_, f, data := content(t)
	key, dir, shared := strings.Repeat("0", keyDigits), t.TempDir(), t.TempDir()
	n := newIntake(dir, shared)
	left := func() int {
		t.Helper()
		own, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadDir(shared)
		if err != nil {
			t.Fatal(err)
		}
		return len(own) + len(theirs)
	}
	put := func(worker string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(shared, productName(key, worker, f)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	message := func(worker string) []byte { return encoded(t, product{worker, []byte("1"), []File{f}}) }
	n.expect(key, f.Bytes)
	for at := int64(0); at < f.Bytes; at += sliceBytes {
		part, err := encodeSlice(partOfProduct{"w", key, f, at}, data[at:min(f.Bytes, at+sliceBytes)])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.take(part); err != nil {
			t.Fatal(err)
		}
	}
	put("second")
	n.discard(key, message("second"))
	if left() != 2 {
		t.Errorf("%d files of a piece that is wanted", left())
	}
	end, wanted := n.use(key)
	if n.forget(key); !wanted || left() != 2 {
		t.Errorf("wanted %v; %d files while the product is taken", wanted, left())
	}
	if end(); left() != 0 {
		t.Errorf("%d files are left of a piece that is forgotten", left())
	}
	if _, wanted := n.use(key); wanted {
		t.Error("a piece that was forgotten is wanted")
	}
	put("third")
	if n.discard(key, message("third")); left() != 0 {
		t.Errorf("%d files are left of a late product", left())
	}
	n.discard("../"+key[3:], message("third"))
}

// away is an object store whose server is away.
type away struct {
	jetstream.ObjectStore
	asked int
}

// Delete fails when ctx ends.
func (a *away) Delete(ctx context.Context, _ string) error {
	a.asked++
	<-ctx.Done()
	return ctx.Err()
}

// TestRetractEnds takes a file of many parts back while the server is away: that ends with the context.
func TestRetractEnds(t *testing.T) {
	f := File{strings.Repeat("ab", 32), 100 * partBytes}
	store := &away{}
	s := newSupply(nil, "0123456789abcdef", 1)
	s.add(f, "file")
	s.bucket = store
	for part := range int64(100) {
		s.there[partName(f.SHA256, part)] = true
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s.remove(ctx, f); store.asked != 1 {
		t.Errorf("%d requests", store.asked)
	}
}

// FuzzWindows reads altered files of windows.
func FuzzWindows(f *testing.F) {
	good := EncodeWindows([][]int32{{1, 2, 3}, {4, 5, 6}})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append([]byte(windowsMagic), 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := DecodeWindows(data, 256)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(EncodeWindows(w), data) {
			t.Errorf("%v", w)
		}
	})
}
