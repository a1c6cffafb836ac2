package remote

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/space"
)

// protocol is the version of the messages.
const protocol = 2

// Limits of messages, in bytes unless stated otherwise.
const (
	maxSpec       = 1 << 20
	maxTask       = 1<<20 - 1<<14 // below the limit of payloads that servers have by default
	maxResult     = 256 << 10
	maxStatus     = 8 << 10
	maxText       = 400  // of an error or a name inside a message
	maxCandidates = 256  // in a task
	maxParts      = 8192 // of a score
	maxLevelFiles = 4096
	maxPhases     = 16      // of a search
	maxFile       = 1 << 40 // bytes of a file
)

// errMessage is wrapped by the errors of messages that are not what they should be.
var errMessage = errors.New("remote: invalid message")

// A File is content that workers need, identified by its hash.
type File struct {
	SHA256 string
	Bytes  int64
}

func (f File) check(field string) error {
	switch {
	case !isHex(f.SHA256, 2*sha256.Size):
		return fmt.Errorf("%w: %s.SHA256 %.70q is not a hash", errMessage, field, f.SHA256)
	case f.Bytes < 0 || f.Bytes > maxFile:
		return fmt.Errorf("%w: %s.Bytes %d of 0 to %d", errMessage, field, f.Bytes, int64(maxFile))
	}
	return nil
}

// isHex reports whether text consists of so many lower-case hexadecimal digits.
func isHex(text string, digits int) bool {
	return len(text) == digits && strings.Trim(text, "0123456789abcdef") == ""
}

// A Spec describes a search to workers, or other work that is handed out: what they must have to score its candidates and to do its pieces.
// Workers that have other Weights than it names, or another Algebra or Runner, are refused.
type Spec struct {
	Protocol int
	Search   string // identity, 16 hexadecimal digits
	Phase    int    `json:",omitempty"` // of the search, see [Exchange.Begin]
	Version  string // of the program
	Device   string // kind of device that computes: go, xla, cuda
	Weights  string `json:",omitempty"` // type that weights have on the device
	Algebra  string `json:",omitempty"` // what computes the linear algebra of re-fits; "" where nothing depends on it
	Runner   string `json:",omitempty"` // what runs models in files, likewise
	Fitness  string `json:",omitempty"` // "" where there are no candidates
	Model    File
	Text     File   `json:",omitzero"`  // windows, as [EncodeWindows] writes them; the zero value for none
	Levels   []File `json:",omitempty"` // by slot; none for strategies without levels
	// Reference is the dense model's negative log-likelihood on a piece of the text, which a worker computes too before it takes tasks; the
	// zero value for none.
	Reference Reference
	Ended     bool `json:",omitempty"` // the search is over
}

// Reference is a score that every worker must reproduce.
type Reference struct {
	Tier search.Tier
	NLL  float64
}

// Identity identifies what scores depend on besides the candidate and its tier.
func (s Spec) identity() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %s %s", s.Phase, s.Model.SHA256, s.Text.SHA256, s.Fitness)
	for _, f := range s.Levels {
		fmt.Fprintf(h, " %s", f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s Spec) check() error {
	switch {
	case s.Protocol != protocol:
		return fmt.Errorf("%w: Protocol %d, this program has %d", errMessage, s.Protocol, protocol)
	case !isHex(s.Search, searchDigits):
		return fmt.Errorf("%w: Search %.40q", errMessage, s.Search)
	case len(s.Levels) > maxLevelFiles:
		return fmt.Errorf("%w: Levels has %d files", errMessage, len(s.Levels))
	case s.Phase < 0 || s.Phase > maxPhases:
		return fmt.Errorf("%w: Phase %d", errMessage, s.Phase)
	case s.Reference.Tier.Tokens < 0:
		return fmt.Errorf("%w: Reference.Tier.Tokens %d", errMessage, s.Reference.Tier.Tokens)
	}
	for _, field := range [][2]string{{"Version", s.Version}, {"Device", s.Device}, {"Fitness", s.Fitness}, {"Weights", s.Weights}, {"Algebra", s.Algebra}, {"Runner", s.Runner}} {
		if name, text := field[0], field[1]; text != line(text) {
			return fmt.Errorf("%w: %s %.40q", errMessage, name, text)
		}
	}
	if s.Ended {
		return nil
	}
	if err := s.Model.check("Model"); err != nil {
		return err
	}
	if s.Text != (File{}) {
		if err := s.Text.check("Text"); err != nil {
			return err
		}
	} else if s.Fitness != "" || s.Reference.Tier.Tokens > 0 {
		return fmt.Errorf("%w: Text is missing", errMessage)
	}
	for i, f := range s.Levels {
		if err := f.check(fmt.Sprintf("Levels[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

// searchDigits is the length of the identity of a search.
const searchDigits = 16

func decodeSpec(data []byte) (Spec, error) {
	var s Spec
	if err := decode(data, maxSpec, &s); err != nil {
		return Spec{}, err
	}
	return s, s.check()
}

// decode reads a message of limited size.
func decode(data []byte, limit int, to any) error {
	if len(data) > limit {
		return fmt.Errorf("%w: it has %d bytes, more than %d", errMessage, len(data), limit)
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	return nil
}

// line returns a text of a message as one printable line of limited length.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return text
}

// task is a batch of candidates to score on one text, or a piece of work.
type task struct {
	Phase      int             `json:",omitempty"` // of the search
	Tier       search.Tier     `json:",omitzero"`
	Candidates []taskCandidate `json:",omitempty"`
	Bases      []taskBase      `json:",omitempty"`
	Piece      *Piece          `json:",omitempty"`
}

// taskCandidate is a choice of levels or masks as bits, with the number of its base from 1, 0 for none.
type taskCandidate struct {
	Choice space.Choice `json:",omitempty"`
	Bits   []byte       `json:",omitempty"`
	Base   int          `json:",omitempty"`
}

// taskBase is a subnet made by hand. File has its re-fitted weights, if it has any.
type taskBase struct {
	Bits    []byte
	Weights string `json:",omitempty"`
	File    *File  `json:",omitempty"`
}

// newTask returns the task of candidates. file returns the file of the weights of a base.
func newTask(candidates []search.Candidate, t search.Tier, file func(weights string) (File, error)) (task, error) {
	out := task{Tier: t}
	number := map[*space.Base]int{}
	for _, c := range candidates {
		w := taskCandidate{Choice: c.Choice}
		if c.Choice == nil {
			w.Bits = c.Masks.AppendBits(nil)
		}
		if b := c.Base; b != nil {
			if number[b] == 0 {
				base := taskBase{Bits: b.Masks.AppendBits(nil), Weights: b.Weights}
				if b.Weights != "" {
					f, err := file(b.Weights)
					if err != nil {
						return task{}, err
					}
					base.File = &f
				}
				out.Bases = append(out.Bases, base)
				number[b] = len(out.Bases)
			}
			w.Base = number[b]
		}
		out.Candidates = append(out.Candidates, w)
	}
	return out, nil
}

func decodeTask(data []byte) (task, error) {
	var t task
	if err := decode(data, maxTask, &t); err != nil {
		return task{}, err
	}
	if t.Piece != nil {
		if len(t.Candidates)+len(t.Bases) > 0 {
			return task{}, fmt.Errorf("%w: Candidates and Piece in one task", errMessage)
		}
		return t, t.Piece.check()
	}
	switch {
	case len(t.Candidates) == 0 || len(t.Candidates) > maxCandidates:
		return task{}, fmt.Errorf("%w: Candidates has %d of 1 to %d", errMessage, len(t.Candidates), maxCandidates)
	case len(t.Bases) > len(t.Candidates):
		return task{}, fmt.Errorf("%w: Bases has %d of %d candidates", errMessage, len(t.Bases), len(t.Candidates))
	case t.Tier.Tokens < 0:
		return task{}, fmt.Errorf("%w: Tier.Tokens %d", errMessage, t.Tier.Tokens)
	}
	for i, b := range t.Bases {
		if b.Weights == "" != (b.File == nil) || b.Weights != "" && !isHex(b.Weights, baseDigits) {
			return task{}, fmt.Errorf("%w: Bases[%d].Weights %.40q", errMessage, i, b.Weights)
		}
		if b.File != nil {
			if err := b.File.check(fmt.Sprintf("Bases[%d].File", i)); err != nil {
				return task{}, err
			}
		}
	}
	for i, c := range t.Candidates {
		if c.Base < 0 || c.Base > len(t.Bases) {
			return task{}, fmt.Errorf("%w: Candidates[%d].Base is %d of %d", errMessage, i, c.Base, len(t.Bases))
		}
		if c.Choice == nil == (c.Bits == nil) {
			return task{}, fmt.Errorf("%w: Candidates[%d] has neither a choice nor masks, or both", errMessage, i)
		}
	}
	return t, nil
}

// baseDigits is the length of what the weights of a subnet made by hand are identified by.
const baseDigits = 32

// candidates returns the candidates of a task for a model, whose levels may be nil.
func (t task) candidates(g *subnet.Geometry, levels *space.Levels) ([]search.Candidate, error) {
	bases := make([]*space.Base, len(t.Bases))
	for i, b := range t.Bases {
		masks, err := subnet.FromBits(g, b.Bits)
		if err != nil {
			return nil, fmt.Errorf("%w: Bases[%d].Bits: %w", errMessage, i, err)
		}
		bases[i] = &space.Base{Masks: masks, Weights: b.Weights}
	}
	out := make([]search.Candidate, len(t.Candidates))
	for i, c := range t.Candidates {
		if c.Base > 0 {
			out[i].Base = bases[c.Base-1]
		}
		var err error
		switch {
		case c.Choice == nil:
			out[i].Masks, err = subnet.FromBits(g, c.Bits)
		case levels == nil:
			err = errors.New("it chooses among levels, and the search has none")
		default:
			out[i].Choice = c.Choice
			out[i].Masks, err = levels.MasksOver(c.Choice, out[i].Base)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: Candidates[%d]: %w", errMessage, i, err)
		}
	}
	return out, nil
}

// keyDigits is the length of a key.
const keyDigits = 32

// keyOf identifies a candidate together with all that its score depends on: the identity of the search's model, text and levels, and
// the tier.
func keyOf(identity string, c search.Candidate, t search.Tier) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d\n", identity, t.Tokens, t.Draw)
	if c.Base != nil {
		fmt.Fprintf(h, "base %s %x\n", c.Base.Weights, c.Base.Masks.AppendBits(nil))
	}
	if c.Choice != nil {
		fmt.Fprintf(h, "choice %v", []int16(c.Choice))
	} else {
		fmt.Fprintf(h, "masks %x", c.Masks.AppendBits(nil))
	}
	return hex.EncodeToString(h.Sum(nil))[:keyDigits]
}

// result is a score. Its key is in the subject.
type result struct {
	Worker string
	// Numbers are fitness, negative log-likelihood, divergence and the parts, as little-endian float64: the exact bits, NaN included.
	Numbers []byte
	Tokens  int64
}

func newResult(worker string, s search.Score) result {
	r := result{Worker: worker, Tokens: s.Tokens}
	for _, v := range append([]float64{s.Fitness, s.NLL, s.KL}, s.Parts...) {
		r.Numbers = binary.LittleEndian.AppendUint64(r.Numbers, math.Float64bits(v))
	}
	return r
}

func decodeResult(data []byte) (worker string, s search.Score, err error) {
	var r result
	if err := decode(data, maxResult, &r); err != nil {
		return "", search.Score{}, err
	}
	const own, size = 3, 8
	n := len(r.Numbers) / size
	switch {
	case len(r.Numbers)%size != 0 || n < own || n-own > maxParts:
		return "", search.Score{}, fmt.Errorf("%w: Numbers has %d bytes", errMessage, len(r.Numbers))
	case r.Tokens < 0:
		return "", search.Score{}, fmt.Errorf("%w: Tokens %d", errMessage, r.Tokens)
	}
	numbers := make([]float64, n)
	for i := range numbers {
		numbers[i] = math.Float64frombits(binary.LittleEndian.Uint64(r.Numbers[size*i:]))
	}
	s = search.Score{Fitness: numbers[0], NLL: numbers[1], KL: numbers[2], Tokens: r.Tokens}
	if n > own {
		s.Parts = numbers[own:]
	}
	return line(r.Worker), s, nil
}

// failure reports that a worker could not score a candidate, or none of a task if Key is "".
type failure struct {
	Worker, Key, Error string
}

func decodeFailure(data []byte) (failure, error) {
	var f failure
	if err := decode(data, maxStatus, &f); err != nil {
		return failure{}, err
	}
	if !isHex(f.Key, keyDigits) {
		return failure{}, fmt.Errorf("%w: Key %.40q", errMessage, f.Key)
	}
	f.Worker, f.Error = line(f.Worker), line(f.Error)
	return f, nil
}

// State is what a worker does.
type State string

// The states of workers.
const (
	Preparing State = "preparing" // fetches or loads the model
	Refused   State = "refused"   // cannot work for this search: Error has the reason
	Idle      State = "idle"
	Scoring   State = "scoring"
	Draining  State = "draining" // finishes its task and leaves
	Gone      State = "gone"     // has left
	Lost      State = "lost"     // has not been heard of for a while
)

// A Worker is the state of a worker as it reports it.
type Worker struct {
	ID      string
	Host    string
	Device  string
	State   State
	Scored  int     // candidates, or pieces of work
	Failed  int     // those that it could not score or do
	Seconds float64 // for each of them, lately; 0 while unknown
	Reused  float64 // share of layers that were not computed because of a common prefix
	Doing   string  `json:",omitempty"` // kind of its task: "candidates", or that of a piece of work
	Error   string  `json:",omitempty"` // the last one
	Exact   bool    `json:",omitempty"` // computes the reference to the last bit
}

func decodeStatus(data []byte) (Worker, error) {
	var w Worker
	if err := decode(data, maxStatus, &w); err != nil {
		return Worker{}, err
	}
	switch w.State {
	case Preparing, Refused, Idle, Scoring, Draining, Gone:
	default:
		return Worker{}, fmt.Errorf("%w: State %.40q", errMessage, w.State)
	}
	switch {
	case !validWorker(w.ID):
		return Worker{}, fmt.Errorf("%w: ID %.40q", errMessage, w.ID)
	case w.Scored < 0 || w.Failed < 0:
		return Worker{}, fmt.Errorf("%w: Scored %d, Failed %d", errMessage, w.Scored, w.Failed)
	case !(w.Seconds >= 0 && w.Seconds < 1e9) || !(w.Reused >= 0 && w.Reused <= 1):
		return Worker{}, fmt.Errorf("%w: Seconds %v, Reused %v", errMessage, w.Seconds, w.Reused)
	}
	w.Host, w.Device, w.Error, w.Doing = line(w.Host), line(w.Device), line(w.Error), line(w.Doing)
	return w, nil
}

// validWorker reports whether an identity of a worker can be part of a subject.
func validWorker(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}
