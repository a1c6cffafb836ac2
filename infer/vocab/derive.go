package vocab

import (
	"container/heap"
	"unicode/utf8"
)

// derive returns what each entry is merged of in the last step.
//
// No merge crosses the bounds of what ends as one token, so that within a longer text the token is merged in the same steps as by itself.
func (v *Vocabulary) derive() [][]int32 {
	rank := v.ranks()
	parts := make([][]int32, v.Len())
	for id, token := range v.t.Tokens {
		if kind := v.t.Types[id]; kind == user || kind == single { // matched before text is split, or spelled by a byte
			continue
		}
		if v.index[token] == id {
			parts[id] = v.entries(token, rank)
		}
	}
	return parts
}

// entries returns the entries that a text is merged of in the last step, nil where merges do not make it one token. A side of that merge that is
// no entry is replaced by those that it is merged of itself.
func (v *Vocabulary) entries(text string, rank ranking) []int32 {
	root := merge(text, rank)
	if root == nil || root.left == nil {
		return nil
	}
	var out []int32
	open := []*node{root.right, root.left} // the next one last
	for len(open) > 0 {
		n := open[len(open)-1]
		open = open[:len(open)-1]
		if id, ok := v.index[text[n.at:n.end]]; ok {
			out = append(out, int32(id))
		} else if n.left != nil {
			open = append(open, n.right, n.left)
		}
	}
	return out
}

// ranking returns the rank of a merge of two neighbours, of which the lowest is made first, and whether they are merged at all.
type ranking func(left, right string) (float64, bool)

func (v *Vocabulary) ranks() ranking {
	if !v.t.Pairs {
		return func(left, right string) (float64, bool) {
			id, ok := v.index[left+right]
			if !ok {
				return 0, false
			}
			return -float64(v.t.Scores[id]), true
		}
	}
	type pair struct{ left, right string }
	order := make(map[pair]float64, len(v.t.Merges))
	for i, m := range v.t.Merges {
		left, right := splitMerge(m)
		if _, ok := order[pair{left, right}]; !ok {
			order[pair{left, right}] = float64(i)
		}
	}
	return func(left, right string) (float64, bool) {
		r, ok := order[pair{left, right}]
		return r, ok
	}
}

// node is a part of a text: a character, or what two parts were merged to.
type node struct {
	at, end     int
	left, right *node
}

// symbol is a part of a text, in a list of neighbours. node is nil once it is merged into the one before.
type symbol struct {
	*node
	prev, next int // -1 at the ends
}

// candidate is a pair of neighbours that may be merged.
type candidate struct {
	left, right int
	size        int // of both
	rank        float64
}

// queue is a heap of candidates: the lowest rank first, and the leftmost of equal ones.
type queue []candidate

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if q[i].rank != q[j].rank {
		return q[i].rank < q[j].rank
	}
	return q[i].left < q[j].left
}
func (q *queue) Push(x any) { *q = append(*q, x.(candidate)) }
func (q *queue) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}

// merge merges the characters of a text as llama.cpp does. It returns nil where they do not end as one part.
func merge(text string, rank ranking) *node {
	var symbols []symbol
	for at := 0; at < len(text); {
		_, n := utf8.DecodeRuneInString(text[at:])
		i := len(symbols)
		symbols = append(symbols, symbol{&node{at: at, end: at + n}, i - 1, i + 1})
		at += n
	}
	if len(symbols) == 0 {
		return nil
	}
	symbols[len(symbols)-1].next = -1
	var q queue
	add := func(l, r int) {
		if l < 0 || r < 0 {
			return
		}
		a, b := symbols[l].node, symbols[r].node
		if at, ok := rank(text[a.at:a.end], text[b.at:b.end]); ok {
			heap.Push(&q, candidate{l, r, b.end - a.at, at})
		}
	}
	for i := 1; i < len(symbols); i++ {
		add(i-1, i)
	}
	parts := len(symbols)
	for len(q) > 0 {
		c := heap.Pop(&q).(candidate)
		l, r := &symbols[c.left], &symbols[c.right]
		if l.node == nil || r.node == nil || r.end-l.at != c.size || l.next != c.right {
			continue // one of them was merged since
		}
		parts--
		l.node, l.next, r.node = &node{l.at, r.end, l.node, r.node}, r.next, nil
		if l.next >= 0 {
			symbols[l.next].prev = c.left
		}
		add(l.prev, c.left)
		add(c.left, l.next)
	}
	if parts > 1 {
		return nil
	}
	return symbols[0].node
}
