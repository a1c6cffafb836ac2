package vocab_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer/vocab"
)

// The reference tokenizers below look at all neighbours in every step, and share nothing with the package.

// tokenizePairs merges the characters of a word: each time the first of the neighbours of the lowest rank.
func tokenizePairs(word string, merges []string) []string {
	ranks := make(map[string]int)
	for i, m := range merges {
		if _, ok := ranks[m]; !ok {
			ranks[m] = i
		}
	}
	return reduce(word, func(a, b string) (float64, bool) {
		r, ok := ranks[a+" "+b]
		return float64(r), ok
	})
}

// tokenizePieces does so by the scores of pieces.
func tokenizePieces(word string, scores map[string]float32) []string {
	return reduce(word, func(a, b string) (float64, bool) {
		s, ok := scores[a+b]
		return -float64(s), ok
	})
}

func reduce(word string, rank func(a, b string) (float64, bool)) []string {
	parts := strings.Split(word, "")
	for {
		best, lowest := -1, 0.0
		for i := range len(parts) - 1 {
			if r, ok := rank(parts[i], parts[i+1]); ok && (best < 0 || r < lowest) {
				best, lowest = i, r
			}
		}
		if best < 0 {
			return parts
		}
		parts[best] += parts[best+1]
		parts = slices.Delete(parts, best+1, best+2)
	}
}

// randomTables makes a vocabulary over a few letters as training does: the tokens of random words, merged pair by pair.
func randomTables(rng *rand.Rand, pairs bool, merges int) vocab.Tables {
	t := vocab.Tables{Pairs: pairs, Named: map[int]string{1: "eos_token_id"}}
	have := make(map[string]bool)
	add := func(token string, kind int32, score float32) {
		if !have[token] {
			have[token] = true
			t.Tokens, t.Types, t.Scores = append(t.Tokens, token), append(t.Types, kind), append(t.Scores, score)
		}
	}
	add("<unk>", 2, 0)
	add("<end>", 3, 0)
	for b := range 256 {
		if pairs {
			add(string(byteRune(byte(b))), 1, 0)
		} else {
			add(fmt.Sprintf("<0x%02X>", b), 6, 0)
		}
	}
	if !pairs {
		for _, c := range "abcdé▁" {
			add(string(c), 1, -1000)
		}
	}
	normal := func() string { // one of the tokens that can be merged
		for {
			if i := rng.IntN(len(t.Tokens)); t.Types[i] == 1 && (!pairs || i >= 258 || strings.ContainsAny(t.Tokens[i], "abcdĠ")) {
				return t.Tokens[i]
			}
		}
	}
	for i := range merges {
		left, right := normal(), normal()
		if utf8.RuneCountInString(left+right) > 12 {
			continue
		}
		if pairs {
			t.Merges = append(t.Merges, left+" "+right)
		}
		add(left+right, 1, float32(-i)-rng.Float32())
	}
	add("<unused0>", 3, 0)
	return t
}

func byteRune(b byte) rune {
	printable := func(c byte) bool { return c >= '!' && c <= '~' || c >= 0xa1 && c <= 0xac || c >= 0xae }
	if printable(b) {
		return rune(b)
	}
	r := rune(256)
	for c := range b {
		if !printable(c) {
			r++
		}
	}
	return r
}

// choose counts tokens of random words, keeps n entries, and checks what the package promises of them on other words.
func choose(t *testing.T, tables vocab.Tables, rng *rand.Rand, keep int) {
	t.Helper()
	v, err := vocab.New(tables)
	if err != nil {
		t.Fatal(err)
	}
	id := make(map[string]int)
	for i, token := range tables.Tokens {
		id[token] = i
	}
	letters := []string{"a", "b", "c", "d", "Ġ"}
	if !tables.Pairs {
		letters = []string{"a", "b", "c", "d", "é", "▁", "z"}
	}
	word := func() string {
		var b strings.Builder
		for range 1 + rng.IntN(14) {
			b.WriteString(letters[min(rng.IntN(len(letters)+2), len(letters)-1)])
		}
		return b.String()
	}
	tokenize := func(w string, kept []int) []string {
		if tables.Pairs {
			return tokenizePairs(w, v.Merges(kept))
		}
		scores := make(map[string]float32)
		for _, i := range kept {
			scores[tables.Tokens[i]] = tables.Scores[i]
		}
		return tokenizePieces(w, scores)
	}
	every := make([]int, v.Len())
	for i := range every {
		every[i] = i
	}
	counts := make([]float64, v.Len())
	for range 100 {
		for _, token := range tokenize(word(), every) {
			if i, ok := id[token]; ok {
				counts[i]++
			}
		}
	}
	r, err := v.Rank(vocab.Request{Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.Keep(max(keep, r.Least(true)), true)
	if err != nil {
		t.Fatal(err)
	}
	kept := r.Kept(n)
	if len(kept) != n || !slices.IsSorted(kept) {
		t.Fatalf("%d entries kept, not %d", len(kept), n)
	}
	if err := v.Check(kept); err != nil {
		t.Fatal(err)
	}
	has := make(map[string]bool)
	for _, i := range kept {
		has[tables.Tokens[i]] = true
	}
	for range 100 {
		w := word()
		whole, got := tokenize(w, every), tokenize(w, kept)
		if strings.Join(got, "") != w {
			t.Fatalf("%q became %q", w, got)
		}
		lost := false
		for _, token := range whole {
			if _, ok := id[token]; ok {
				lost = lost || !has[token]
			}
		}
		if !lost && !slices.Equal(whole, got) {
			t.Fatalf("all tokens of %q, %q, are kept, and it became %q", w, whole, got)
		}
		for _, token := range got {
			if utf8.RuneCountInString(token) > 1 && !has[token] {
				t.Fatalf("%q became %q, and %q is no entry", w, got, token)
			}
		}
	}
}

func TestTokensOfKeptEntriesStay(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, pairs := range []bool{true, false} {
			tables := randomTables(rng, pairs, 20+rng.IntN(120))
			choose(t, tables, rng, len(tables.Tokens)-rng.IntN(len(tables.Tokens)-257))
		}
	}
}

func FuzzChoice(f *testing.F) {
	f.Add(uint64(1), true, uint16(40), uint16(280))
	f.Add(uint64(2), false, uint16(90), uint16(300))
	f.Fuzz(func(t *testing.T, seed uint64, pairs bool, merges, keep uint16) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tables := randomTables(rng, pairs, 1+int(merges%300))
		if pairs && len(tables.Merges) == 0 {
			return
		}
		choose(t, tables, rng, int(keep))
	})
}

// words is a vocabulary of pairs with the words "the", "then" and "thin".
func words() vocab.Tables {
	t := vocab.Tables{Pairs: true, Merges: []string{"t h", "th e", "the n", "i n", "th in", "x y"}}
	t.Tokens, t.Types = append(t.Tokens, "<end>", "<unused7>"), append(t.Types, 3, 3)
	for b := range 256 {
		t.Tokens, t.Types = append(t.Tokens, string(byteRune(byte(b)))), append(t.Types, 1)
	}
	for _, token := range []string{"th", "the", "then", "in", "thin"} { // without "xy", which its merge makes
		t.Tokens, t.Types = append(t.Tokens, token), append(t.Types, 1)
	}
	return t
}

const first = 258 // entry of "th"

func TestRankDropsLeavesByCount(t *testing.T) {
	v, err := vocab.New(words())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(v.Parts(first+2), v.Parts(first+4), v.Parts(0)), fmt.Sprintf("[%d %d] [%d %d] []", first+1, 2+'n', first, first+3); got != want {
		t.Errorf("then, thin and the end are merged of %s, want %s", got, want)
	}
	counts := make([]float64, v.Len())
	counts[first+2], counts[first+4], counts[first+1], counts[0] = 5, 100, 1, 9
	r, err := v.Rank(vocab.Request{Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	// The placeholder goes first, then "then", whose count "the" gets, "the" and, last, "thin" before what it is merged of.
	want := [][]string{{"<unused7>"}, {"then"}, {"the"}, {"thin"}}
	gone := func(n int) (list []string) {
		kept := r.Kept(v.Len() - n)
		for id := range v.Len() {
			if !slices.Contains(kept, id) {
				list = append(list, v.Text(id))
			}
		}
		return list
	}
	var all []string
	for i, step := range want {
		all = append(all, step...)
		got := gone(i + 1)
		slices.Sort(got)
		sorted := slices.Sorted(slices.Values(all))
		if !slices.Equal(got, sorted) {
			t.Errorf("after %d: %q are dropped, want %q", i+1, got, sorted)
		}
	}
	if least := r.Least(true); least != 257 {
		t.Errorf("at least %d entries, want the end and 256 bytes", least)
	}
	if n := r.Share(0.95); n != v.Len()-2 { // 5 of 115 are dropped, 6 would be more than the rest
		t.Errorf("%d of %d entries hold 95 %%", n, v.Len())
	}
	if covered, longer := r.Covered(v.Len()-2), r.Longer(v.Len()-2); covered != 1-5.0/115 || longer != 1+5.0/115 {
		t.Errorf("%v covered, %v times as long", covered, longer)
	}
}

func TestWantedEntriesStay(t *testing.T) {
	v, err := vocab.New(words())
	if err != nil {
		t.Fatal(err)
	}
	counts := make([]float64, v.Len())
	r, err := v.Rank(vocab.Request{Counts: counts, Wanted: map[int]string{first + 2: "chat template"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Least(false); n != 257+3 { // then, the and th
		t.Fatalf("at least %d entries", n)
	}
	if _, err := r.Keep(259, false); !errors.Is(err, vocab.ErrLoss) || !strings.Contains(err.Error(), `"then" (chat template)`) {
		t.Errorf("error %v", err)
	}
	if n, err := r.Keep(259, true); err != nil || n != 259 || v.Check(r.Kept(n)) != nil {
		t.Errorf("%d, error %v", n, err)
	}
	if _, err := r.Keep(200, true); !errors.Is(err, vocab.ErrInvalid) || !strings.Contains(err.Error(), "257") {
		t.Errorf("error %v", err)
	}
	if n, err := r.Keep(1<<20, false); err != nil || n != v.Len() {
		t.Errorf("%d, error %v", n, err)
	}
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	v, err := vocab.New(words())
	if err != nil {
		t.Fatal(err)
	}
	all := make([]int, v.Len())
	for i := range all {
		all[i] = i
	}
	without := func(ids ...int) []int {
		return slices.DeleteFunc(slices.Clone(all), func(id int) bool { return slices.Contains(ids, id) })
	}
	for name, c := range map[string]struct {
		kept []int
		want string
	}{
		"all":         {all, ""},
		"placeholder": {without(1), ""},
		"leaf":        {without(first + 2), ""},
		"special":     {without(0), "<end>"},
		"byte":        {without(2), "byte"},
		"part":        {without(first), "merged"},
		"order":       {[]int{2, 1}, "after"},
		"beyond":      {append(without(), v.Len()), "of 263"},
	} {
		err := v.Check(c.kept)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, vocab.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if got := v.Merges(without(first + 2)); !slices.Equal(got, []string{"t h", "th e", "i n", "th in", "x y"}) {
		t.Errorf("merges %q", got)
	}
}

func TestScriptsAndLetters(t *testing.T) {
	tables := vocab.Tables{Scores: make([]float32, 0)}
	for _, token := range []string{"<unk>", "▁", "a", "b", "▁the", "ж", "я", "▁мир", "猫", "12", "<0x0A>"} {
		kind := int32(1)
		switch token {
		case "<unk>":
			kind = 2
		case "<0x0A>":
			kind = 6
		}
		tables.Tokens, tables.Types, tables.Scores = append(tables.Tokens, token), append(tables.Types, kind), append(tables.Scores, 0)
	}
	v, err := vocab.New(tables)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(v.Scripts([]int{0, 1, 2, 4, 7, 10}))
	if want := "[{Cyrillic 1 3} {Latin 2 3} {digits and symbols 2 3} {Han 0 1} {special tokens 1 1}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	counts := make([]float64, v.Len())
	counts[2], counts[7], counts[5], counts[8] = 5000, 10, 10, 1
	wanted := map[int]string{2: "chat template"}
	v.Letters(counts, wanted)
	if want := map[int]string{2: "chat template", 5: "letter of Cyrillic"}; fmt.Sprint(wanted) != fmt.Sprint(want) { // Han is below a thousandth
		t.Errorf("%v, want %v", wanted, want)
	}
}

// A byte-level vocabulary of an untrusted file may hold characters that represent no byte.
func TestTextOfCharactersThatAreNoBytes(t *testing.T) {
	tables := words()
	for _, token := range []string{"a b", "\x00", "\xff", "猫", "Ġ\n", string(rune(256 + 68))} {
		tables.Tokens, tables.Types = append(tables.Tokens, token), append(tables.Types, 1)
	}
	v, err := vocab.New(tables)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"a b", "\x00", "\ufffd", "猫", " \n", string(rune(256 + 68))} {
		if got := v.Text(first + 5 + i); got != want {
			t.Errorf("%q is the text %q, want %q", tables.Tokens[first+5+i], got, want)
		}
	}
	if n := len(v.Scripts(nil)); n == 0 {
		t.Error("no scripts")
	}
}

func TestTablesThatAreNoVocabulary(t *testing.T) {
	for name, tables := range map[string]vocab.Tables{
		"nothing":   {},
		"types":     {Tokens: []string{"a"}, Pairs: true, Merges: []string{"a b"}},
		"no scores": {Tokens: []string{"a"}, Types: []int32{1}},
		"no merges": {Tokens: []string{"a"}, Types: []int32{1}, Pairs: true},
	} {
		if _, err := vocab.New(tables); !errors.Is(err, vocab.ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	v, err := vocab.New(words())
	if err != nil {
		t.Fatal(err)
	}
	for name, counts := range map[string][]float64{"too few": {1}, "negative": append(make([]float64, v.Len()-1), -1)} {
		if _, err := v.Rank(vocab.Request{Counts: counts}); !errors.Is(err, vocab.ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
