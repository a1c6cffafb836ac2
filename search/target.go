package search

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Measure is the quantity that a target bounds.
type Measure string

// The measures.
const (
	// Params: the inheriting ratio, the share of the block matrices' parameters
	// that is kept.
	Params Measure = "params"
	// Bytes: the size of the GGUF file.
	Bytes Measure = "bytes"
	// Memory: the tensors of that file and a KV cache of Target.Context tokens.
	Memory Measure = "memory"
	// Latency: seconds per generated token on this machine.
	Latency Measure = "latency"
	// Speed: the same as a share of the dense model's.
	Speed Measure = "speed"
)

// Target is the highest cost of a subnet.
type Target struct {
	Measure Measure
	Value   float64
	Type    string // storage type of the matrices, for all measures but Params; "" is that of each in the source
	Context int    // tokens in the cache, for Memory
	KV      string `json:",omitempty"` // type of the cache, for Memory; "" is F16
}

// CacheTypes are the types that a KV cache may have, the default first.
func CacheTypes() []string { return []string{"F16", "Q8_0", "Q4_0"} }

// Ratio returns the target of an inheriting ratio.
func Ratio(share float64) Target { return Target{Measure: Params, Value: share} }

// String describes the target for people.
func (t Target) String() string {
	in := ""
	if t.Type != "" {
		in = " as " + t.Type
	}
	switch t.Measure {
	case Bytes:
		return fmt.Sprintf("%.4g MB%s", t.Value/1e6, in)
	case Memory:
		cache := ""
		if t.KV != "" {
			cache = " in " + t.KV
		}
		return fmt.Sprintf("%.4g MB of memory%s with %d tokens of context%s", t.Value/1e6, in, t.Context, cache)
	case Latency:
		return fmt.Sprintf("%.4g ms per token%s", t.Value*1e3, in)
	case Speed:
		return fmt.Sprintf("%.4g × the dense model's speed%s", 1/t.Value, in)
	default: // nothing for the others
	}
	return fmt.Sprintf("%.4g of the parameters", t.Value)
}

// Text returns the form that [ParseTarget] reads: 0.8, 80MB, memory=512MB@4096,
// memory=512MB@4096/Q8_0, latency=12ms, speed=1.5x, with :TYPE where the target has one. It is "" for no
// target.
func (t Target) Text() string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	in := ""
	if t.Type != "" {
		in = ":" + t.Type
	}
	switch t.Measure {
	case "":
		return ""
	case Bytes:
		return bytesText(t.Value) + in
	case Memory:
		cache := ""
		if t.KV != "" {
			cache = "/" + t.KV
		}
		return fmt.Sprintf("memory=%s@%d%s%s", bytesText(t.Value), t.Context, cache, in)
	case Latency:
		return "latency=" + number(roundTo(t.Value*1e3)) + "ms" + in
	case Speed:
		return "speed=" + number(roundTo(1/t.Value)) + "x" + in
	default: // nothing for the others
	}
	return number(t.Value)
}

// roundTo removes the rounding error of a unit's conversion.
func roundTo(v float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64)
	if err != nil {
		return v
	}
	return short
}

// byteUnits are the units of sizes, the decimal ones that sizes are shown in first.
var byteUnits = [...]struct {
	name  string
	bytes float64
}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"TB", 1e12}, {"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// bytesText returns a number of bytes in the largest decimal unit that shows it
// exactly with few digits.
func bytesText(v float64) string {
	for _, u := range byteUnits[:3] {
		if n := v / u.bytes; n >= 1 && n < 1e5 && math.Round(n*1e3) == n*1e3 {
			return strconv.FormatFloat(n, 'g', -1, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'f', -1, 64) + "B"
}

// targetForms lists what [ParseTarget] reads, for errors and help.
const targetForms = "a ratio such as 0.8, a file size such as 80MB, memory=512MB@4096, speed=1.5x or latency=12ms"

// ParseTarget reads a target: 0.8 or 80% is an inheriting ratio, 80MB or size=80MB
// the size of the file, memory=512MB@4096 that of weights and KV cache at a
// context, of F16 or as in memory=512MB@4096/Q8_0 of another type, speed=1.5x and latency=12ms the time per generated token. All but ratios
// may end in :TYPE, the type of the matrices; typ is the type of those that do not,
// "" for that of the source. Errors wrap [ErrConfig].
func ParseTarget(text, typ string) (Target, error) {
	body, own, typed := strings.Cut(strings.TrimSpace(text), ":")
	key, value, keyed := strings.Cut(body, "=")
	if !keyed {
		key, value = "", body
	}
	value = strings.TrimSpace(value)
	if typed {
		typ = own
	}
	t := Target{Type: strings.ToUpper(strings.TrimSpace(typ))}
	var ok bool
	switch key = strings.ToLower(strings.TrimSpace(key)); key {
	case "", "size", "ratio":
		var share float64
		if share, ok = parseShare(value); ok && key != "size" && !typed {
			t = Ratio(share)
			break
		}
		t.Measure = Bytes
		t.Value, ok = ParseBytes(value)
		ok = ok && key != "ratio"
	case "memory":
		size, context, at := strings.Cut(value, "@")
		context, cache, _ := strings.Cut(context, "/")
		t.KV = strings.ToUpper(strings.TrimSpace(cache))
		n, err := strconv.Atoi(strings.TrimSpace(context))
		t.Measure, t.Context = Memory, n
		t.Value, ok = ParseBytes(size)
		ok = ok && at && err == nil && n > 0
	case "speed":
		factor, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSuffix(value, "x"), "×"), 64)
		t.Measure, t.Value = Speed, 1/factor
		ok = err == nil && factor > 0
	case "latency":
		d, err := time.ParseDuration(strings.ReplaceAll(value, " ", ""))
		t.Measure, t.Value = Latency, d.Seconds()
		ok = err == nil
	default:
		ok = false
	}
	if !ok {
		return Target{}, fmt.Errorf("%w: the target %.60q is not %s", ErrConfig, text, targetForms)
	}
	return t, t.check()
}

// parseShare reads a ratio, in per cent where it ends so.
func parseShare(text string) (float64, bool) {
	digits, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if percent {
		v /= 100
	}
	return v, err == nil
}

// ParseBytes reads a size with its unit, such as "512MB" or "1.5 GiB", in whole bytes. Case and space before the unit do not matter.
func ParseBytes(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	for _, u := range byteUnits {
		if len(text) > len(u.name) && strings.EqualFold(text[len(text)-len(u.name):], u.name) {
			v, err := strconv.ParseFloat(strings.TrimSpace(text[:len(text)-len(u.name)]), 64)
			return math.Round(v * u.bytes), err == nil
		}
	}
	return 0, false
}

// UnmarshalJSON reads an object with the target's fields, a number, which is a ratio
// or, if 0, no target, and the text of a target.
func (t *Target) UnmarshalJSON(data []byte) error {
	switch data = bytes.TrimSpace(data); {
	case len(data) > 0 && data[0] == '"':
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		parsed, err := ParseTarget(text, "")
		*t = parsed
		return err
	case len(data) > 0 && data[0] == '{':
		type fields Target
		return json.Unmarshal(data, (*fields)(t))
	}
	var share float64
	if err := json.Unmarshal(data, &share); err != nil {
		return err
	}
	*t = Target{}
	if share != 0 {
		*t = Ratio(share)
	}
	return nil
}

// Share returns the ratio of a [Params] target and 0 for others.
func (t Target) Share() float64 {
	if t.Measure == Params {
		return t.Value
	}
	return 0
}

// Timed reports whether the target is a time, which a machine must have measured.
func (t Target) Timed() bool { return t.Measure == Latency || t.Measure == Speed }

// Within returns nil for a cost that the target allows, and otherwise an error that names the cost as
// the nearest possible. It wraps [ErrTarget].
func (t Target) Within(cost float64) error {
	if t.allows(cost) {
		return nil
	}
	if math.IsInf(cost, 0) || math.IsNaN(cost) {
		return fmt.Errorf("%w: the cost in %s is not known", ErrTarget, t.Measure)
	}
	return t.unreachable(cost)
}

// Check returns an error for a target that is not valid. It wraps [ErrConfig].
func (t Target) Check() error { return t.check() }

// check returns an error for a target that is not valid.
func (t Target) check() error {
	switch t.Measure {
	case Params:
		if !(t.Value > 0 && t.Value <= 1) {
			return fmt.Errorf("%w: a share of %v of the parameters is not in (0, 1]", ErrConfig, t.Value)
		}
	case Bytes, Memory, Latency, Speed:
		if _, err := subnet.ParseType(t.Type); err != nil && t.Type != "" {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
		if t.Context < 0 || t.Context > 1<<30 {
			return fmt.Errorf("%w: a context of %d tokens", ErrConfig, t.Context)
		}
		if t.KV != "" && !slices.Contains(CacheTypes(), t.KV) {
			return fmt.Errorf("%w: a KV cache of %.20q: the types are %s", ErrConfig, t.KV, strings.Join(CacheTypes(), ", "))
		}
	default:
		return fmt.Errorf("%w: unknown measure %q", ErrConfig, t.Measure)
	}
	if !(t.Value > 0) || math.IsInf(t.Value, 0) || t.Value > maxBytes && !t.Timed() {
		return fmt.Errorf("%w: a target of %v", ErrConfig, t.Value)
	}
	return nil
}

// maxBytes bounds sizes, which are counted in 64-bit integers.
const maxBytes = 1 << 60

// allows reports whether a cost is within the target.
func (t Target) allows(cost float64) bool { return cost <= t.Value*(1+1e-9) }

// unreachable returns the error for a target below the smallest subnet.
func (t Target) unreachable(smallest float64) error {
	least := t
	least.Value = smallest
	return fmt.Errorf("%w: the target is %v, the nearest possible is %v: %s", ErrTarget, t, least, least.rounded().Text())
}

// rounded returns a target of few digits that allows everything that t allows.
func (t Target) rounded() Target {
	digits := func(v float64, round func(float64) float64) float64 {
		unit := math.Pow(10, math.Floor(math.Log10(v))-2)
		return roundTo(round(v/unit) * unit)
	}
	if t.Measure == Speed {
		t.Value = 1 / digits(1/t.Value, math.Floor)
		return t
	}
	t.Value = digits(t.Value, math.Ceil)
	return t
}
