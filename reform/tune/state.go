package tune

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"hash"
	"time"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// state is all that a run needs to continue to the same result.
type state struct {
	Key           string
	Step, Checks  int
	Elapsed       time.Duration
	Values        []float32
	First, Second []float64 // Adam's moments
	Best          []float32
	BestStep      int
	BestHeldOut   float64
	Before        float64
	Worse         int     // checks since the best
	Sum           float64 // of the losses of Count steps since the last check
	Count         int
	Curve         []Point
	Marks         []int // see [Report]
	Stopped       string
}

func (s *state) encode() ([]byte, error) {
	var out bytes.Buffer
	err := gob.NewEncoder(&out).Encode(s)
	return out.Bytes(), err
}

// decodeState returns the state of the run with that key, which tunes n numbers.
func decodeState(data []byte, key string, n int) (state, bool) {
	var s state
	if len(data) == 0 || gob.NewDecoder(bytes.NewReader(data)).Decode(&s) != nil {
		return state{}, false
	}
	whole := len(s.Values) == n && len(s.First) == n && len(s.Second) == n && (s.BestStep == 0 || len(s.Best) == n) && len(s.Curve) > 0
	return s, s.Key == key && whole
}

// runKey identifies what decides the result of a run.
func runKey(spec gguf.Subnet, windows [][]int32, c Config) string {
	h := sha256.New()
	fmt.Fprintf(h, "tune 3 %d %d %g %d %d %t %d %d %v\n", c.Steps, c.Time, c.Rate, c.Batch, c.Seed, c.Bias, c.Rank, c.Until, c.Marks)
	if text, err := spec.Masks.MarshalText(); err == nil {
		h.Write(text)
	}
	for _, r := range spec.Refit {
		for _, m := range [][]float32{r.WO, r.WD, r.WU, r.BO, r.BD, r.GA, r.GM, r.WG, r.WQ, r.WK, r.WV} {
			fmt.Fprintf(h, "\n%d ", len(m))
			write(h, m)
		}
	}
	for _, w := range windows {
		fmt.Fprintf(h, "\n%d ", len(w))
		write(h, w)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// write adds numbers to a hash, which returns no errors.
func write(h hash.Hash, numbers any) { _ = binary.Write(h, binary.LittleEndian, numbers) }
