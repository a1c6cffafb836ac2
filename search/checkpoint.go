package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// A checkpoint is the magic, the version as a little-endian uint32, the SHA-256
// of the body, and the body: a [record] as JSON.
const (
	checkpointMagic   = "lathesrc"
	checkpointVersion = 2
	checkpointHeader  = len(checkpointMagic) + 4 + sha256.Size
)

// record is the body of a checkpoint. The first fields are what it is bound to.
type record struct {
	Model    string
	Levels   string // key of the levels, "" without
	Strategy string
	Options  json.RawMessage // of the strategy
	Seed     uint64

	Elapsed time.Duration
	State   State
	// The lists of the state, in a form without geometry.
	Population, Front, Pending, Top []recordedIndividual
	// Bases are the subnets made by hand that individuals have modules of.
	Bases []recordedBase `json:",omitempty"`
	// Memo holds the scores of the generation that was interrupted.
	Memo []recordedScore
}

type recordedIndividual struct {
	ID, Parent, Generation int
	Origin                 Origin
	Moves                  string
	Score                  Score
	Tier                   int
	Choice                 space.Choice `json:",omitempty"`
	Bits                   []byte       `json:",omitempty"`
	Base                   int          `json:",omitempty"` // from 1, in the record's list; 0 for none
}

type recordedBase struct {
	Bits    []byte
	Weights string `json:",omitempty"`
}

type recordedScore struct {
	Key   memoKey
	Score Score
}

// memoKey identifies a score: the candidate and its text.
type memoKey struct {
	Masks  uint64 // fingerprint
	Levels bool   // with the re-fitted weights of levels
	Exact  string `json:",omitempty"` // which modules are of which base
	Choice string `json:",omitempty"` // of levels that have types, which masks do not determine
	Tier   Tier
}

func keyOf(c Candidate, t Tier) memoKey {
	k := memoKey{Masks: fingerprint(c.Masks), Levels: c.Choice != nil, Exact: c.exact(), Tier: t}
	if len(c.Choice) > subnet.Modules*c.Masks.Layers() { // one for the vocabulary
		k.Choice = fmt.Sprint([]int16(c.Choice))
	}
	return k
}

// newRecord returns a record bound to a problem and a strategy, without a state.
func newRecord(p *Problem, s Strategy) (record, error) {
	options, err := json.Marshal(s)
	if err != nil {
		return record{}, fmt.Errorf("search: checkpoint: %w", err)
	}
	r := record{Model: p.Model, Strategy: s.Name(), Options: options, Seed: p.Seed}
	if p.Levels != nil {
		r.Levels = p.Levels.Key
	}
	return r, nil
}

// encode returns the checkpoint of a record.
func (r record) encode() ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("search: checkpoint: %w", err)
	}
	data := make([]byte, 0, checkpointHeader+len(body))
	data = append(data, checkpointMagic...)
	data = binary.LittleEndian.AppendUint32(data, checkpointVersion)
	sum := sha256.Sum256(body)
	data = append(data, sum[:]...)
	return append(data, body...), nil
}

// decodeRecord reads a checkpoint of a search over p with strategy s. Errors wrap
// [ErrDamaged], [ErrVersion], [ErrModel] or [ErrOther].
func decodeRecord(data []byte, p *Problem, s Strategy) (record, error) {
	body, err := checkpointBody(data)
	if err != nil {
		return record{}, err
	}
	return decodeBody(body, p, s)
}

// CheckpointLevels returns the key of the levels that a checkpoint is bound to, "" if
// there is no checkpoint or it is not bound to levels. Errors wrap [ErrDamaged] or
// [ErrVersion].
func CheckpointLevels(store Store) (string, error) {
	data, err := store.Load()
	if errors.Is(err, ErrNoCheckpoint) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	body, err := checkpointBody(data)
	if err != nil {
		return "", err
	}
	var r struct{ Levels string }
	if err := json.Unmarshal(body, &r); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r.Levels, nil
}

// CheckpointTarget returns the target of a checkpoint, and false if there is none.
// Errors wrap [ErrDamaged] or [ErrVersion].
func CheckpointTarget(store Store) (Target, bool, error) {
	data, err := store.Load()
	if errors.Is(err, ErrNoCheckpoint) {
		return Target{}, false, nil
	}
	if err != nil {
		return Target{}, false, err
	}
	body, err := checkpointBody(data)
	if err != nil {
		return Target{}, false, err
	}
	var r struct{ State struct{ Target Target } }
	if err := json.Unmarshal(body, &r); err != nil {
		return Target{}, false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r.State.Target, true, nil
}

// checkpointBody checks the header of a checkpoint and returns its body.
func checkpointBody(data []byte) ([]byte, error) {
	if len(data) < checkpointHeader || string(data[:len(checkpointMagic)]) != checkpointMagic {
		return nil, fmt.Errorf("%w: it does not begin with the magic", ErrDamaged)
	}
	head := data[len(checkpointMagic):checkpointHeader]
	if v := binary.LittleEndian.Uint32(head); v != checkpointVersion {
		return nil, fmt.Errorf("%w: version %d, this program writes and reads %d", ErrVersion, v, checkpointVersion)
	}
	body := data[checkpointHeader:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], head[4:]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return body, nil
}

func decodeBody(body []byte, p *Problem, s Strategy) (record, error) {
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	want, err := newRecord(p, s)
	if err != nil {
		return record{}, err
	}
	switch {
	case r.Model != want.Model:
		return record{}, fmt.Errorf("%w: it is of model %.80q, this is %.80q", ErrModel, r.Model, want.Model)
	case r.Levels != want.Levels:
		return record{}, fmt.Errorf("%w: its levels were made from other text or with other options", ErrOther)
	case r.Strategy != want.Strategy:
		return record{}, fmt.Errorf("%w: its strategy is %.40q, this is %q", ErrOther, r.Strategy, want.Strategy)
	case !bytes.Equal(r.Options, want.Options):
		return record{}, fmt.Errorf("%w: its options are %.400s, these are %s", ErrOther, r.Options, want.Options)
	case r.Seed != want.Seed:
		return record{}, fmt.Errorf("%w: its seed is %d, this is %d", ErrOther, r.Seed, want.Seed)
	}
	if err := r.State.Target.check(); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	bases, err := r.bases(p)
	if err != nil {
		return record{}, err
	}
	for _, list := range []struct {
		from []recordedIndividual
		to   *[]Individual
	}{{r.Population, &r.State.Population}, {r.Front, &r.State.Front}, {r.Pending, &r.State.Pending}} {
		if *list.to, err = restoreAll(list.from, p, r.State.Target, bases); err != nil {
			return record{}, err
		}
	}
	if r.State.Paper != nil {
		if r.State.Paper.Top, err = restoreAll(r.Top, p, r.State.Target, bases); err != nil {
			return record{}, err
		}
	}
	if err := s.Accepts(p, r.State); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// setState puts a state into the record.
func (r *record) setState(s State) {
	r.State = s
	number := map[*space.Base]int{}
	r.Population, r.Front, r.Pending = r.list(s.Population, number), r.list(s.Front, number), r.list(s.Pending, number)
	if s.Paper != nil {
		r.Top = r.list(s.Paper.Top, number)
	}
}

// bases returns the bases of the record.
func (r *record) bases(p *Problem) ([]*space.Base, error) {
	out := make([]*space.Base, len(r.Bases))
	for i, b := range r.Bases {
		masks, err := subnet.FromBits(p.Geometry, b.Bits)
		if err != nil {
			return nil, fmt.Errorf("%w: Bases[%d]: %w", ErrDamaged, i, err)
		}
		out[i] = &space.Base{Masks: masks, Weights: b.Weights}
	}
	return out, nil
}

// list returns the recorded form of individuals, and adds their bases to the record. number holds those that it has, from 1.
func (r *record) list(all []Individual, number map[*space.Base]int) []recordedIndividual {
	out := make([]recordedIndividual, len(all))
	for i, in := range all {
		out[i] = recordedIndividual{
			ID: in.ID, Parent: in.Parent, Generation: in.Generation, Origin: in.Origin, Moves: in.Moves,
			Score: in.Score, Tier: in.Tier, Choice: in.Choice,
		}
		if in.Choice == nil {
			out[i].Bits = in.Masks.AppendBits(nil)
		}
		if in.Base == nil {
			continue
		}
		if number[in.Base] == 0 {
			r.Bases = append(r.Bases, recordedBase{in.Base.Masks.AppendBits(nil), in.Base.Weights})
			number[in.Base] = len(r.Bases)
		}
		out[i].Base = number[in.Base]
	}
	return out
}

func restoreAll(all []recordedIndividual, p *Problem, t Target, bases []*space.Base) ([]Individual, error) {
	var out []Individual
	for _, r := range all {
		in := Individual{
			ID: r.ID, Parent: r.Parent, Generation: r.Generation, Origin: r.Origin, Moves: r.Moves,
			Score: r.Score, Tier: r.Tier,
		}
		var err error
		var base *space.Base
		if r.Base > 0 && r.Base <= len(bases) {
			base = bases[r.Base-1]
		}
		switch {
		case r.Base < 0 || r.Base > len(bases):
			err = fmt.Errorf("field Base is %d of %d", r.Base, len(bases))
		case r.Choice == nil:
			in.Base = base
			in.Masks, err = subnet.FromBits(p.Geometry, r.Bits)
		case p.Levels == nil:
			err = fmt.Errorf("it chooses among levels, and there are none")
		default:
			in.Candidate, err = p.candidateOver(r.Choice, base)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: individual %d: %w", ErrDamaged, r.ID, err)
		}
		in.Ratio = float64(in.Masks.BlockParams()) / float64(p.Geometry.BlockParams())
		in.Bytes, in.Tensors = p.sizes(in.Candidate)
		in.Cost = in.cost(t, p.Prices)
		out = append(out, in)
	}
	return out, nil
}
