package record

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
)

// A movie of a session has the frames that replace the screen and those that last, and draws equal rows once.
func TestMovie(t *testing.T) {
	c := NewCast(10, 6, "a <session>")
	at := time.Unix(1000, 0)
	for _, e := range []struct {
		after  time.Duration
		output string
	}{
		{0, "\x1b[?25l"},
		{time.Second, "\x1b[2J\x1b[1;1H\x1b[31mone\r\n│█⠁\r\nsame"}, // after an empty frame
		{time.Second, "\x1b[4;1H*"},                                 // too small a change, too early
		{time.Second, "\x1b[2J\x1b[1;1Htwo\r\n\r\n\x1b[31msame\r\nnew"},
		{20 * time.Millisecond, "\x1b[1;1Hwow"}, // before the frame has settled
		{time.Second, ""},
	} {
		at = at.Add(e.after)
		c.Output(at, []byte(e.output+"\x1b[m"))
	}
	var session, movie bytes.Buffer
	if _, err := c.WriteTo(&session); err != nil {
		t.Fatal(err)
	}
	if err := Movie(&movie, &session, Dark()); err != nil {
		t.Fatal(err)
	}
	got := movie.String()
	for text, n := range map[string]int{`class="f `: 2, ">one<": 1, ">same<": 1, ">two<": 0, ">wow<": 1, ">*<": 0, "M4 8v-8M4 8v8": 1, "M8 0h8v16h-8z": 1, "M17 2h2": 1} {
		if k := strings.Count(got, text); k != n {
			t.Errorf("%d × %s, want %d, in\n%s", k, text, n, got)
		}
	}
	d := xml.NewDecoder(&movie)
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if Movie(io.Discard, strings.NewReader("no session"), Dark()) == nil {
		t.Error("a movie was made of something else")
	}
}

// A marked session shows stretches of any length in so many frames, moments for as long as a frame is shown, and nothing of the rest.
func TestMarks(t *testing.T) {
	c := NewCast(10, 6, "marked")
	at := time.Unix(1000, 0)
	output := func(text string) {
		at = at.Add(time.Second)
		c.Output(at, []byte(text))
	}
	mark := func(m string) { c.Mark(at, m) }
	output("\x1b[2J\x1b[1;1Hstart")
	mark(MarkHold)
	output("\x1b[2J\x1b[1;1Hnever\r\n1\r\n2\r\n3\r\n4")
	output("\x1b[2J\x1b[1;1Hnor this\r\n\r\n\r\n")
	mark(MarkLapse + "4")
	for i := range 40 {
		output(fmt.Sprintf("\x1b[1;1Hn%d\x1b[K", i))
	}
	mark(MarkSkip)
	output("\x1b[2J\x1b[1;1Hskipped\r\na\r\nb\r\nc")
	output("\x1b[2J\x1b[1;1H\x1b[32mend")
	mark(MarkHold)
	output("")
	var session bytes.Buffer
	if _, err := c.WriteTo(&session); err != nil {
		t.Fatal(err)
	}
	m, _, err := play(bytes.NewReader(session.Bytes()), Dark(), func(*vt.Emulator) {})
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for i, f := range m.frames {
		text := regexp.MustCompile("<[^>]*>").ReplaceAllString(m.rows[f[0]], "")
		shown = append(shown, fmt.Sprint(text, " ", m.ticks[i]))
	}
	if want := []string{"start 4", "n8 1", "n18 1", "n28 1", "n38 1", "end 4"}; !slices.Equal(shown, want) {
		t.Errorf("frames and ticks %q, want %q", shown, want)
	}
	var condensed, again, movie bytes.Buffer
	for from, draw := range map[*bytes.Buffer]*bytes.Buffer{bytes.NewBuffer(session.Bytes()): &movie, &condensed: &again} {
		if from == &condensed {
			if err := Condense(&condensed, bytes.NewReader(session.Bytes())); err != nil {
				t.Fatal(err)
			}
		}
		if err := Movie(draw, from, Dark()); err != nil {
			t.Fatal(err)
		}
	}
	if again.String() != movie.String() {
		t.Errorf("the movie of the condensed session is\n%s\nand that of the session\n%s", again.String(), movie.String())
	}
	for _, bad := range []string{"lapse", "lapse 0", "lapse x", "dance"} {
		if Movie(io.Discard, strings.NewReader(strings.ReplaceAll(session.String(), "lapse 4", bad)), Dark()) == nil {
			t.Errorf("a movie was made of the mark %q", bad)
		}
	}
}
