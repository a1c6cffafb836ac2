package vocab

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrLoss is wrapped by errors about a choice that would lose entries that should stay.
var ErrLoss = errors.New("the vocabulary would lose tokens")

// Request is what entries are ranked by.
type Request struct {
	// Counts holds how often each entry occurs in the texts that the model is used on.
	Counts []float64
	// Wanted holds entries that should stay, with the reason, such as those that a chat template writes.
	Wanted map[int]string
}

// priorShare is the weight, in tokens for each token counted, of what is known without texts: a vocabulary lists its entries in the order of
// their frequency in the texts that it was made of, and the frequency of the nth is about proportional to 1/n.
const priorShare = 0.2

// Ranking is the order in which entries are dropped: those that texts use least first, and none that a kept one is merged of.
type Ranking struct {
	v           *Vocabulary
	drops       []int32
	soft        int            // drops from here on are of wanted entries
	why         map[int]string // of wanted entries and what they are merged of
	extra, lost []float64      // after each drop: more tokens than before, and tokens counted whose entry was dropped
	counted     float64        // tokens
}

// Rank orders the entries.
func (v *Vocabulary) Rank(r Request) (*Ranking, error) {
	if len(r.Counts) != v.Len() {
		return nil, fmt.Errorf("%w: counts of %d entries, of %d", ErrInvalid, len(r.Counts), v.Len())
	}
	out := &Ranking{v: v, why: make(map[int]string)}
	for _, n := range r.Counts {
		if !(n >= 0) || math.IsInf(n, 0) {
			return nil, fmt.Errorf("%w: a count of %v", ErrInvalid, n)
		}
		out.counted += n
	}
	fixed := v.closure(func(id int) string { return v.essential(id) })
	wanted := v.closure(func(id int) string { return r.Wanted[id] })
	for id, why := range wanted {
		if fixed[id] == "" && why != "" {
			out.why[id] = why
		}
	}
	d := dropping{v: v, weight: v.weights(r.Counts, out.counted), count: append([]float64(nil), r.Counts...), users: make([]int, v.Len())}
	for _, parts := range v.parts {
		for _, p := range parts {
			d.users[p]++
		}
	}
	out.soft = len(d.drop(out, r.Counts, func(id int) bool { return fixed[id] != "" || out.why[id] != "" }))
	d.drop(out, r.Counts, func(id int) bool { return fixed[id] != "" })
	return out, nil
}

// closure returns the reason for each entry that has one, and for all that such an entry is merged of.
func (v *Vocabulary) closure(reason func(id int) string) []string {
	why := make([]string, v.Len())
	var visit func(id int, because string)
	visit = func(id int, because string) {
		if why[id] != "" {
			return
		}
		why[id] = because
		for _, p := range v.parts[id] {
			visit(int(p), because)
		}
	}
	for id := range why {
		if because := reason(id); because != "" {
			visit(id, because)
		}
	}
	return why
}

// weights returns by what entries are ordered: their counts and what is known without texts.
func (v *Vocabulary) weights(counts []float64, counted float64) []float64 {
	sum := 0.0
	for i := range counts {
		sum += 1 / float64(i+1)
	}
	scale := priorShare * max(counted, 1) / sum
	out := make([]float64, len(counts))
	for id, n := range counts {
		if out[id] = n; !v.isPlaceholder(id) {
			out[id] += scale / float64(id+1)
		}
	}
	return out
}

// dropping is the state of a ranking.
type dropping struct {
	v             *Vocabulary
	weight, count []float64 // of each entry, with those of dropped ones that are merged of it
	users         []int     // kept entries that are merged of each entry
	gone          []bool
}

// leaf is an entry that no kept one is merged of.
type leaf struct {
	id     int32
	weight float64
}

type leaves []leaf

func (l leaves) Len() int      { return len(l) }
func (l leaves) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l leaves) Less(i, j int) bool {
	if l[i].weight != l[j].weight {
		return l[i].weight < l[j].weight
	}
	return l[i].id > l[j].id
}
func (l *leaves) Push(x any) { *l = append(*l, x.(leaf)) }
func (l *leaves) Pop() any {
	old := *l
	x := old[len(old)-1]
	*l = old[:len(old)-1]
	return x
}

// drop drops entries, other than those that stay, until none is left. Texts then use the parts of a dropped entry.
func (d *dropping) drop(r *Ranking, counts []float64, stays func(id int) bool) []int32 {
	if d.gone == nil {
		d.gone = make([]bool, d.v.Len())
	}
	var q leaves
	push := func(id int) {
		if d.users[id] == 0 && !d.gone[id] && !stays(id) {
			heap.Push(&q, leaf{int32(id), d.weight[id]})
		}
	}
	for id := range d.users {
		push(id)
	}
	extra, lost := 0.0, 0.0
	if n := len(r.drops); n > 0 {
		extra, lost = r.extra[n-1], r.lost[n-1]
	}
	for len(q) > 0 {
		id := int(heap.Pop(&q).(leaf).id)
		if d.gone[id] {
			continue
		}
		d.gone[id] = true
		parts := d.v.parts[id]
		more := len(parts)
		if more == 0 {
			more = max(1, len(d.v.Text(id)))
		}
		extra += d.count[id] * float64(more-1)
		lost += counts[id]
		r.drops, r.extra, r.lost = append(r.drops, int32(id)), append(r.extra, extra), append(r.lost, lost)
		for _, p := range parts {
			d.weight[p] += d.weight[id]
			d.count[p] += d.count[id]
			d.users[p]--
		}
		for _, p := range parts {
			push(int(p))
		}
	}
	return r.drops
}

// Least returns how many entries stay at least: with force those that no choice drops, otherwise the wanted ones too.
func (r *Ranking) Least(force bool) int {
	if force {
		return r.v.Len() - len(r.drops)
	}
	return r.v.Len() - r.soft
}

// Keep checks that n entries can be kept, and returns how many are: at most all. Without force an error that wraps [ErrLoss] names the wanted
// entries that would be lost.
func (r *Ranking) Keep(n int, force bool) (int, error) {
	n = min(n, r.v.Len())
	if n >= r.Least(false) {
		return n, nil
	}
	if least := r.Least(true); n < least {
		return 0, fmt.Errorf("%w: %d entries are too few: special tokens, bytes, digits and what they are merged of are %d", ErrInvalid, n, least)
	}
	if force {
		return n, nil
	}
	return 0, fmt.Errorf("%w: with %d entries: %s: %d entries hold all", ErrLoss, n, r.names(r.drops[r.soft:r.v.Len()-n]), r.Least(false))
}

// names lists entries that would be lost by the reasons why they should stay, some of each.
func (r *Ranking) names(lost []int32) string {
	const most = 3
	texts := make(map[string][]string)
	var reasons []string
	for i := len(lost) - 1; i >= 0; i-- { // those that are used most first
		why := r.why[int(lost[i])]
		if texts[why] == nil {
			reasons = append(reasons, why)
		}
		texts[why] = append(texts[why], fmt.Sprintf("%q", r.v.Text(int(lost[i]))))
	}
	var parts []string
	for _, why := range reasons {
		all, more := texts[why], ""
		if n := len(all) - most; n > 0 {
			all, more = all[:most], fmt.Sprintf(" and %d more", n)
		}
		parts = append(parts, fmt.Sprintf("%s%s (%s)", strings.Join(all, ", "), more, why))
	}
	return strings.Join(parts, "; ")
}

// Share returns how many entries a share of the counted tokens needs, never fewer than those that stay without force.
func (r *Ranking) Share(share float64) int {
	n := 0
	for n < r.soft && r.lost[n] <= (1-share)*r.counted {
		n++
	}
	return r.v.Len() - n
}

// Kept returns the n entries that are kept, in increasing order.
func (r *Ranking) Kept(n int) []int {
	gone := make([]bool, r.v.Len())
	for _, id := range r.drops[:r.v.Len()-n] {
		gone[id] = true
	}
	kept := make([]int, 0, n)
	for id, is := range gone {
		if !is {
			kept = append(kept, id)
		}
	}
	return kept
}

// Covered returns which share of the counted tokens is of n kept entries.
func (r *Ranking) Covered(n int) float64 {
	if at := r.v.Len() - n; at > 0 && r.counted > 0 {
		return 1 - r.lost[at-1]/r.counted
	}
	return 1
}

// Longer returns by which factor the counted texts have more tokens with n entries, if each dropped token is replaced by its parts.
func (r *Ranking) Longer(n int) float64 {
	if at := r.v.Len() - n; at > 0 && r.counted > 0 {
		return 1 + r.extra[at-1]/r.counted
	}
	return 1
}
