package tui

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestCopyScatteredMasks copies masks of scattered units, whose ranges are more than terminals accept, from three screens.
func TestCopyScatteredMasks(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("esc")
	for _, c := range []struct {
		keys []string
		want func() subnet.Masks
	}{
		{[]string{"1", "y"}, func() subnet.Masks { return l.m.snap.Search.Best.Masks }},
		{[]string{"2", "y"}, func() subnet.Masks { return l.m.snap.Draft.Masks }},
		{[]string{"6", "home", "y"}, func() subnet.Masks { return l.selected().Masks }},
	} {
		l.copy = ""
		l.press(c.keys...)
		l.until("the copy of "+c.keys[0], func() bool { return l.copy != "" })
		want := c.want()
		long, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := subnet.ParseMasks(want.Geometry(), []byte(l.copy)); err != nil || !got.Equal(want) || len(l.copy) > 16<<10 || len(long) < 50<<10 {
			t.Errorf("%s: %d bytes instead of %d, read back: %v, equal %v", c.keys[0], len(l.copy), len(long), err, err == nil && got.Equal(want))
		}
		if strings.Contains(l.screen(), "more than terminals") {
			t.Errorf("refused:\n%s", l.screen())
		}
	}
}
