package corpus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// bytesOf tokenises to bytes.
func bytesOf(_ context.Context, text string) ([]int32, error) {
	tokens := make([]int32, len(text))
	for i := range tokens {
		tokens[i] = int32(text[i])
	}
	return tokens, nil
}

func textOf(tokens []int32) string {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	return string(b)
}

func TestDocuments(t *testing.T) {
	body := strings.Repeat("words of a document ", 60)
	var extract, wikiText, web, prose strings.Builder
	for i := range 10 {
		fmt.Fprintf(&extract, "<doc id=\"%d\" url=\"u\" title=\"t\">\nTitle %d\n\n%s\n\n</doc>\n", i, i, body)
		fmt.Fprintf(&wikiText, " \n = Title %d = \n \n %s \n \n = = Section = = \n \n %s \n", i, body, body)
		fmt.Fprintf(&web, "Page %d %s\n", i, body)
		fmt.Fprintf(&prose, "Paragraph %d\n%s\n\n", i, body)
	}
	for name, c := range map[string]struct {
		text, first string
		count       int
	}{
		"WikiExtractor": {extract.String(), "Title %d\n\nwords", 10},
		"WikiText":      {wikiText.String()[2:], " = Title %d = ", 10},
		"lines":         {web.String(), "Page %d words", 10},
		"paragraphs":    {prose.String(), "Paragraph %d\nwords", 10},
		"short lines":   {strings.Repeat("line\n", 50), "line\n", 50},
		"no marks":      {strings.Repeat("word ", 1000), "word ", 3},
	} {
		docs := documents(c.text)
		if len(docs) != c.count {
			t.Errorf("%s: %d documents, want %d", name, len(docs), c.count)
			continue
		}
		for i, d := range docs {
			want := c.first
			if strings.Contains(want, "%d") {
				want = fmt.Sprintf(want, i)
			}
			if !strings.HasPrefix(d, want) || strings.Contains(d, "<doc") || strings.Contains(d, "</doc") {
				t.Errorf("%s: document %d begins with %.40q, want %q", name, i, d, want)
			}
		}
		if joined := strings.Join(docs, ""); name != "WikiExtractor" && joined != c.text {
			t.Errorf("%s: %d bytes of %d are left", name, len(joined), len(c.text))
		}
	}
	for _, d := range pieces(strings.Repeat("ä", 5000), 1000) {
		if len(d)%2 != 0 || len(d) > 2000 {
			t.Errorf("a piece of %d bytes breaks a character", len(d))
		}
	}
}

// numbered returns n documents of so many bytes that begin with their number.
func numbered(n, size int) []string {
	docs := make([]string, n)
	for i := range docs {
		docs[i] = fmt.Sprintf("#%05d", i) + strings.Repeat("x", size-7) + "\n"
	}
	return docs
}

func TestDraw(t *testing.T) {
	ctx := t.Context()
	const length, n = 3000, 8
	for name, c := range map[string]struct {
		docs    int
		aligned bool // at documents
		whole   bool // with the end
		fits    int
	}{
		"ample":           {2000, true, false, n},
		"sparse no more":  {100, true, false, n},
		"hardly":          {14, false, false, n},
		"with its end":    {12, false, true, n},
		"shorter":         {11, false, true, 6},
		"far too short":   {3, false, true, 2},
		"exactly one end": {6, false, true, 3},
	} {
		docs := numbered(c.docs, 2048)
		text := strings.Join(docs, "")
		fits, err := NewDocuments(docs, bytesOf).Fit(ctx, n, length)
		if name != "with its end" && (err != nil || fits != c.fits) {
			t.Errorf("%s: %d windows fit, want %d, error %v", name, fits, c.fits, err)
		}
		got, err := NewDocuments(docs, bytesOf).Draw(ctx, min(n, len(text)/length), length, 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Whole != c.whole {
			t.Errorf("%s: with the end: %v", name, got.Whole)
		}
		last := 0
		for i, w := range got.Windows {
			at := strings.Index(text[last:], textOf(w))
			if at < 0 || len(w) != length {
				t.Fatalf("%s: window %d is not in the text after the one before it", name, i)
			}
			if at += last; c.aligned && at%2048 != 0 {
				t.Errorf("%s: window %d begins at byte %d, inside a document", name, i, at)
			}
			if part := (c.docs*2048 - maxRest) / n; c.aligned && c.docs >= 2000 && (at < i*part || at >= (i+1)*part) {
				t.Errorf("%s: window %d begins at byte %d, outside its part of the text", name, i, at)
			}
			last = at + length
		}
		again, _ := NewDocuments(docs, bytesOf).Draw(ctx, len(got.Windows), length, 1)
		other, _ := NewDocuments(docs, bytesOf).Draw(ctx, len(got.Windows), length, 2)
		equal := func(a, b Drawn) bool { return slices.EqualFunc(a.Windows, b.Windows, slices.Equal[[]int32]) }
		if !equal(got, again) || c.docs >= 100 && equal(got, other) {
			t.Errorf("%s: the same seed gives other windows, or another seed the same", name)
		}
	}
	var short *ShortError
	if _, err := NewDocuments(numbered(3, 2048), bytesOf).Draw(ctx, 8, length, 1); !errors.As(err, &short) || short.Tokens != 3*2048 {
		t.Errorf("too short: %v", err)
	}
	failed := errors.New("failed")
	if _, err := NewDocuments(numbered(9, 2048), func(context.Context, string) ([]int32, error) { return nil, failed }).Draw(ctx, 1, 10, 1); !errors.Is(err, failed) {
		t.Errorf("no tokens: %v", err)
	}
}

// TestDrawTokenisesLittle draws from a long text.
func TestDrawTokenisesLittle(t *testing.T) {
	total := 0
	c := NewDocuments(numbered(20_000, 2048), func(ctx context.Context, text string) ([]int32, error) {
		total += len(text)
		return bytesOf(ctx, text)
	})
	if _, err := c.Draw(t.Context(), 8, 3000, 1); err != nil || total > 8*3*2048 {
		t.Errorf("%d bytes were tokenised, error %v", total, err)
	}
}

func TestEnd(t *testing.T) {
	docs := numbered(100, 2048)
	c := NewDocuments(docs, bytesOf)
	end, err := c.End(t.Context(), 3000)
	if err != nil || textOf(end) != docs[98][1096:]+docs[99] {
		t.Errorf("%.20q, error %v", textOf(end), err)
	}
	if end, err := c.End(t.Context(), 100*2048/4); err != nil || end != nil {
		t.Errorf("more than is left: %d tokens, error %v", len(end), err)
	}
	if r := c.TokensPerCharacter(); r != 1 {
		t.Errorf("%g tokens per character", r)
	}
	drawn, err := c.Draw(t.Context(), 20, 3000, 1)
	if err != nil || drawn.Whole {
		t.Fatal(err)
	}
	for _, w := range drawn.Windows {
		if strings.Contains(textOf(w), "#00098") || strings.Contains(textOf(w), "#00099") {
			t.Error("the end is in a window")
		}
	}
}

func TestApportion(t *testing.T) {
	shares := []float64{0.4, 0.4, 0.2}
	for _, c := range []struct {
		n      int
		limits []int
		want   []int
	}{
		{8, []int{9, 9, 9}, []int{3, 3, 2}},
		{5, []int{9, 9, 9}, []int{2, 2, 1}},
		{1, []int{9, 9, 9}, []int{1, 0, 0}},
		{128, []int{999, 999, 4}, []int{62, 62, 4}},
		{128, []int{999, 30, 4}, []int{94, 30, 4}},
		{128, []int{10, 3, 4}, []int{10, 3, 4}},
		{17, []int{10, 3, 4}, []int{10, 3, 4}},
	} {
		got, err := Apportion(shares, c.n, func(i, n int) (int, error) { return min(n, c.limits[i]), nil })
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%d windows of %v: %v, want %v, error %v", c.n, c.limits, got, c.want, err)
		}
	}
	failed := errors.New("failed")
	if _, err := Apportion(shares, 8, func(int, int) (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

func TestOrder(t *testing.T) {
	shares := []float64{0.4, 0.4, 0.2}
	for _, counts := range [][]int{{3, 3, 2}, {62, 62, 4}, {1, 0, 0}, {26, 26, 13}} {
		order := Order(counts, shares)
		got := make([]int, len(counts))
		for _, i := range order {
			got[i]++
		}
		if !slices.Equal(got, counts) {
			t.Fatalf("%v: %v in the order", counts, got)
		}
		if len(order) < 20 {
			continue
		}
		for _, part := range [][]int{order[:10], order[len(order)-8:]} {
			for i, share := range shares {
				n := 0
				for _, of := range part {
					if of == i {
						n++
					}
				}
				if math.Abs(float64(n)-share*float64(len(part))) > 1.5 {
					t.Errorf("%v: %d of text %d in %v", counts, n, i, part)
				}
			}
		}
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add("<doc id=\"1\">\na\n</doc>\n<doc \n")
	f.Add(" = T = \n\n a\n = U = \n")
	f.Add("a\n\nb\n\nc\n\nd\n\ne\n\nf\n\ng\n\nh\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := NewText(text, bytesOf)
		n, err := c.Fit(t.Context(), 5, 7)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Draw(t.Context(), n, 7, 1)
		if err != nil || len(got.Windows) != n {
			t.Errorf("%d windows fit, %d are drawn, error %v", n, len(got.Windows), err)
		}
	})
}
