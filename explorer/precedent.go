package explorer

import (
	"cmp"
	"math"
	"time"

	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// FitWindows is how many calibration windows cuts and re-fits have that name no number: more lose less on every text, in proportion more
// time. DefaultSeq is how many tokens a calibration window has by default.
const (
	FitWindows = 32
	DefaultSeq = 2048
)

// A Precedent is a subnet of the library that was made as another one is to be, on the same device, with the time that the other one will
// take: choosing and re-fitting in proportion to the calibration tokens.
type Precedent struct {
	Of     Subnet
	Time   time.Duration // of choosing and re-fitting
	Tuning time.Duration // of tuning: the most, or in proportion to the steps of one here; 0 without tuning, or where it is not known
}

// Took returns how long choosing and re-fitting took.
func (p Precedent) Took() time.Duration { return p.Of.Method.fitted() }

// farthest is the most by which the numbers of tokens of a precedent and of what is to be made may differ, as a factor: parts of the work
// do not depend on them.
const farthest = 8

// Precedent returns the precedent of a command that cuts or re-fits, the newest among those with the nearest number of tokens. ok is false
// where nothing was made alike: no time is known.
func (s *Snapshot) Precedent(c Command) (p Precedent, ok bool) {
	var (
		origin Origin
		on     Calibration
		reform ReformOptions
		by     string
	)
	switch c := c.(type) {
	case Cut:
		origin, on, reform, by = OneShot, c.Calibration, c.Reform, c.Preset
	case Refit:
		origin, on, reform, by = Reformed, c.Calibration, c.Reform, c.Preset
	default:
		return p, false
	}
	by = cmp.Or(by, string(preset.Default))
	like := func(n Subnet) bool {
		m := n.Method
		switch {
		case n.Origin != origin || m.fitted() <= 0 || m.tokens() <= 0 || m.Typed != nil:
			return false
		case origin == Reformed && m.Tune != nil: // tuned by itself: its method is that of the subnet it was made of
			return false
		case origin == OneShot && m.Preset != by || m.Reform != cmp.Or(reform.Method, preset.OwnRefit(by)) || m.Up != valueOf(reform.Up) || m.Gradient != valueOf(reform.Gradient):
			return false
		case reform.Weigh != "" && m.Weigh != reform.Weigh || reform.Bridge != nil && m.Bridge != *reform.Bridge:
			return false
		}
		here := s.Model.Compute == "" || m.Backend == s.Model.Compute && m.Algebra == s.Model.Algebra // "" before the first work of this process
		return here && cmp.Or(m.ComputeType, Floats) == cmp.Or(on.ComputeType, Floats) && m.AtOnce == on.AtOnce
	}
	tokens := float64(cmp.Or(on.Windows, FitWindows)) * float64(cmp.Or(on.Seq, DefaultSeq))
	nearest := math.Log(farthest)
	for _, n := range s.Subnets {
		if !like(n) {
			continue
		}
		more := tokens / n.Method.tokens()
		if far := math.Abs(math.Log(more)); far < nearest || far == nearest && n.Created.After(p.Of.Created) {
			nearest, ok = far, true
			p = Precedent{Of: n, Time: time.Duration(float64(n.Method.fitted()) * more)}
		}
	}
	if cut, isCut := c.(Cut); isCut && ok {
		p.Tuning = s.tuningTime(cut.Tuning, p.Of.Method)
	}
	return p, ok
}

// tuningTime returns how long tuning takes: the most where it has a limit, otherwise by the newest one on the device and with the windows of
// a subnet that was made, 0 where there is none.
func (s *Snapshot) tuningTime(t Tuning, as Method) (d time.Duration) {
	if t.Seconds > 0 || t.Steps <= 0 {
		return time.Duration(t.Seconds * float64(time.Second))
	}
	var newest time.Time
	for _, n := range s.Subnets {
		m := n.Method
		if u := m.Tune; u != nil && u.Steps > 0 && u.Prior == nil && u.Rank == t.Rank && m.Backend == as.Backend && m.ComputeType == as.ComputeType && m.Seq == as.Seq && n.Origin != Imported && !n.Created.Before(newest) {
			newest, d = n.Created, time.Duration(u.Seconds/float64(u.Steps)*float64(t.Steps)*float64(time.Second))
		}
	}
	return d
}

// fitted returns how long choosing and re-fitting took, without the tuning after it.
func (m Method) fitted() time.Duration {
	seconds := m.Seconds
	if m.Tune != nil {
		seconds -= m.Tune.Seconds
	}
	return time.Duration(max(seconds, 0) * float64(time.Second))
}

// tokens returns how many calibration tokens a subnet was made with.
func (m Method) tokens() float64 { return float64(m.Windows) * float64(m.Seq) }

// valueOf returns the value of an option, zero where it is not set.
func valueOf[T any](option *T) (v T) {
	if option != nil {
		v = *option
	}
	return v
}
