package record

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
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
