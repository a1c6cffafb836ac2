package search

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// tiny is a problem of two layers with three levels per module.
func tiny() Problem {
	g := &subnet.Geometry{Arch: "llama", Hidden: 8, Vocab: 16, HeadDim: 4, Tied: true}
	l := &space.Levels{Geometry: g, Key: "tiny"}
	for i := range 2 {
		g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: 2, KVHeads: 2, FFN: 8})
		var attention, mlp space.Ladder
		for step := range 3 {
			m := subnet.Layer{Heads: subnet.Range(2, 0, 2-step), Channels: subnet.Range(8, 0, 8-4*step)}
			a, f := m.ModuleParams(g, i)
			attention = append(attention, space.Level{Mask: m, Params: a, Loss: float64(step * step)})
			mlp = append(mlp, space.Level{Mask: m, Params: f, Loss: 0.5 * float64(step*step)})
		}
		l.Attention, l.MLP = append(l.Attention, attention), append(l.MLP, mlp)
	}
	return Problem{Model: "sha256:1", Geometry: g, Levels: l, Target: Ratio(0.7), Seed: 1}
}

// bySize scores masks by what they keep.
type bySize struct{}

func (bySize) Evaluate(_ context.Context, batch []Candidate, t Tier, done func(int, Score)) error {
	for i, c := range batch {
		done(i, Score{Fitness: 1 / float64(1+c.Masks.BlockParams()+int64(fingerprint(c.Masks)%64)), NLL: 1, Tokens: int64(t.Tokens)})
	}
	return nil
}

// checkpointOf returns the checkpoint that a short search leaves.
func checkpointOf(t testing.TB, p Problem, s Strategy) []byte {
	t.Helper()
	path := FileStore(filepath.Join(t.TempDir(), "checkpoint"))
	job, err := NewJob(Options{Strategy: s, Problem: p, Evaluator: bySize{}, Store: path, Budget: Budget{Generations: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	data, err := path.Load()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCheckpointIsBound(t *testing.T) {
	data := checkpointOf(t, tiny(), DefaultLadder())
	other := DefaultLadder()
	other.Lambda = 3
	p := tiny()
	for name, c := range map[string]struct {
		change   func(p *Problem)
		strategy Strategy
		want     error
		message  string
	}{
		"the same":       {func(*Problem) {}, DefaultLadder(), nil, ""},
		"other target":   {func(p *Problem) { p.Target = Ratio(0.9) }, DefaultLadder(), nil, ""},
		"other model":    {func(p *Problem) { p.Model = "sha256:2" }, DefaultLadder(), ErrModel, `it is of model "sha256:1", this is "sha256:2"`},
		"other levels":   {func(p *Problem) { p.Levels.Key = "x" }, DefaultLadder(), ErrOther, "levels"},
		"other seed":     {func(p *Problem) { p.Seed = 2 }, DefaultLadder(), ErrOther, "its seed is 1, this is 2"},
		"other strategy": {func(*Problem) {}, DefaultRandom(), ErrOther, `its strategy is "ladder", this is "random"`},
		"other options":  {func(*Problem) {}, other, ErrOther, "its options are"},
	} {
		p = tiny()
		c.change(&p)
		_, err := decodeRecord(data, &p, c.strategy)
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p = tiny()
	version := bytes.Clone(data)
	binary.LittleEndian.PutUint32(version[len(checkpointMagic):], checkpointVersion+1)
	if _, err := decodeRecord(version, &p, DefaultLadder()); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), fmt.Sprintf("version %d, this program writes and reads %d", checkpointVersion+1, checkpointVersion)) {
		t.Errorf("other version: %v", err)
	}
	// All damage is detected: any flipped bit, and any truncation.
	for at := 0; at < len(data); at += 1 + len(data)/500 {
		bad := bytes.Clone(data)
		bad[at] ^= 0x10
		if _, err := decodeRecord(bad, &p, DefaultLadder()); err == nil {
			t.Errorf("a bit flipped at %d is not detected", at)
		}
		if _, err := decodeRecord(data[:at], &p, DefaultLadder()); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
}

func TestNewJobRefusesCheckpoints(t *testing.T) {
	path := FileStore(filepath.Join(t.TempDir(), "checkpoint"))
	if err := path.Save([]byte("not one")); err != nil {
		t.Fatal(err)
	}
	o := Options{Strategy: DefaultLadder(), Problem: tiny(), Evaluator: bySize{}, Store: path, Resume: true}
	if _, err := NewJob(o); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
	o.Resume = false
	if _, err := NewJob(o); err != nil {
		t.Errorf("a new search reads the old checkpoint: %v", err)
	}
}

func TestFileStore(t *testing.T) {
	dir := t.TempDir()
	f := FileStore(filepath.Join(dir, "c"))
	if _, err := f.Load(); !errors.Is(err, ErrNoCheckpoint) {
		t.Errorf("empty: %v", err)
	}
	for _, text := range []string{"one", "two, longer", ""} {
		if err := f.Save([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	// The path is a directory: no temporary file is left behind.
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := FileStore(filepath.Join(dir, "d")).Save(nil); err == nil {
		t.Error("a directory was overwritten")
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("%d files are left after a failure", len(left))
	}
}

// FuzzCheckpoint reads bodies with valid checksums: a search can continue from
// those that are accepted, and the others only return errors.
func FuzzCheckpoint(f *testing.F) {
	p := tiny()
	paper := PaperLaptop()
	paper.Granularity, paper.N, paper.Nm, paper.Nc = 1, 4, 2, 1
	for _, s := range []Strategy{DefaultLadder(), paper, DefaultRandom()} {
		f.Add(checkpointOf(f, p, s)[checkpointHeader:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, s := range []Strategy{DefaultLadder(), paper, DefaultRandom()} {
			data := append([]byte(checkpointMagic), 1, 0, 0, 0)
			sum := sha256.Sum256(body)
			data = append(append(data, sum[:]...), body...)
			r, err := decodeRecord(data, &p, s)
			if err != nil {
				continue
			}
			if s.Check(&p, r.State.Target) != nil {
				continue
			}
			eval := func(_ context.Context, batch []Individual, _ int, tier Tier) ([]Score, error) {
				return make([]Score, len(batch)), nil
			}
			_, _ = s.Step(context.Background(), &p, r.State, eval)
		}
	})
}

func TestRecordRoundTrip(t *testing.T) {
	p := tiny()
	for _, s := range []Strategy{DefaultLadder(), DefaultRandom()} {
		data := checkpointOf(t, p, s)
		r, err := decodeRecord(data, &p, s)
		if err != nil {
			t.Fatal(err)
		}
		r.setState(r.State)
		again, err := r.encode()
		if err != nil || !bytes.Equal(again, data) {
			var a, b any
			_ = json.Unmarshal(data[checkpointHeader:], &a)
			_ = json.Unmarshal(again[checkpointHeader:], &b)
			t.Errorf("%s: %v\n%v\n%v", s.Name(), err, a, b)
		}
	}
}

// TestCheckpointsOfEarlierVersions opens checkpoints in testdata, which a user's workspace may hold. Do not regenerate them:
// change checkpointVersion when the format changes.
func TestCheckpointsOfEarlierVersions(t *testing.T) {
	p := tiny()
	for name, s := range stored() {
		data, err := FileStore(filepath.Join("testdata", name+".checkpoint")).Load()
		if err != nil {
			t.Fatal(err)
		}
		r, err := decodeRecord(data, &p, s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		best, ok := r.State.Best()
		if !ok || r.State.Generation != 4 || len(r.State.Front) == 0 || len(r.State.Points) == 0 || len(r.State.History) != 4 ||
			r.State.Spent.Tokens == 0 || best.Score.Fitness == 0 || best.Moves == "" && name == "ladder" {
			t.Errorf("%s: generation %d, best %+v", name, r.State.Generation, best)
		}
		r.setState(r.State)
		if again, err := r.encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: it is written in another form: %v", name, err)
		}
	}
}

// stored returns the strategies of the checkpoints in testdata, with all options explicit.
func stored() map[string]Strategy {
	return map[string]Strategy{
		"ladder": &Ladder{
			Lambda: 4, Moves: 2, Tiers: []int{16, 64}, Keep: 2, Errors: 2, Steps: []int{2, 1}, Patience: 1, Learned: 0.5, Uniform: 0.25,
			Front: []float64{0.8, 0.6}, FrontEvery: 2, Generations: 9,
		},
		"paper": &Paper{
			N: 6, Nm: 2, Nc: 2, K: 3, Epochs: 9, P0m: 0.5, P0s: 0.25, P0d: 0.125, Pm: 0.25, Ps: 0.125, Pd: 0.5, Alpha: 0.5, Eta: 10,
			Directed: true, Range: 0.25, Tokens: 64, Granularity: 1, HeadGranularity: 1,
		},
		"random":  &Random{Batch: 3, Tokens: 64},
		"uniform": &Uniform{Batch: 2, Tokens: 64},
	}
}
