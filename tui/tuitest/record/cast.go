// Package record writes recordings of a terminal: a session as an asciicast, a still as an SVG drawing.
package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// A Cast is a recorded session in asciicast version 2: a header, then one event per line. Its methods must not be called at
// the same time.
type Cast struct {
	w, h   int
	title  string
	last   time.Time
	at     time.Duration // of the last event, with long waits cut short
	events []event
	rest   []byte // the beginning of a character whose end has not arrived
}

type event struct {
	at   time.Duration
	kind string
	data string
}

// longestWait is the longest time between two events; longer ones are cut to it.
const longestWait = 1500 * time.Millisecond

// NewCast begins a session on a terminal of w × h cells.
func NewCast(w, h int, title string) *Cast { return &Cast{w: w, h: h, title: title} }

// Output records output of the program.
func (c *Cast) Output(at time.Time, data []byte) {
	data = append(bytes.Clone(c.rest), data...)
	n := len(data)
	for back := 1; back < utf8.UTFMax && back <= n; back++ { // an unfinished character waits for its end
		if r := data[n-back:]; utf8.RuneStart(r[0]) {
			if !utf8.FullRune(r) {
				n -= back
			}
			break
		}
	}
	c.rest = bytes.Clone(data[n:])
	if n > 0 {
		c.event(at, "o", string(data[:n]))
	}
}

// Mark records a mark, which says how the movie shows the session from there to the next one: see the marks of movies.
func (c *Cast) Mark(at time.Time, mark string) { c.event(at, "m", mark) }

// Resize records a change of the terminal's size.
func (c *Cast) Resize(at time.Time, w, h int) { c.event(at, "r", fmt.Sprintf("%dx%d", w, h)) }

func (c *Cast) event(at time.Time, kind, data string) {
	if !c.last.IsZero() {
		c.at += min(max(at.Sub(c.last), 0), longestWait)
	}
	c.last = at
	c.events = append(c.events, event{c.at, kind, data})
}

// WriteTo writes the session.
func (c *Cast) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	header := struct {
		Version int               `json:"version"`
		Width   int               `json:"width"`
		Height  int               `json:"height"`
		Title   string            `json:"title,omitempty"`
		Env     map[string]string `json:"env"`
	}{2, c.w, c.h, c.title, map[string]string{"TERM": "xterm-256color"}}
	if err := enc.Encode(header); err != nil {
		return 0, err
	}
	for _, e := range c.events {
		seconds := float64(e.at.Milliseconds()) / 1000
		if err := enc.Encode([]any{seconds, e.kind, e.data}); err != nil {
			return 0, err
		}
	}
	return b.WriteTo(w)
}
