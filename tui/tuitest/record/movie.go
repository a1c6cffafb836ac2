package record

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
)

// A movie contains the frames of a session that change a third of the screen, once they have settled, and otherwise one
// frame per step. Each is shown for one to longest ticks.
const (
	step    = 5 * time.Second
	settled = 200 * time.Millisecond
	tick    = 250 * time.Millisecond
	longest = 4 // ticks
)

// The marks of a session, from which on its movie is made otherwise. Lapse is followed by a number.
const (
	MarkPlay   = "play"   // as above: what every session begins with
	MarkSkip   = "skip"   // nothing of it
	MarkHold   = "hold"   // the screen at this moment, for as long as a frame is shown at most; then nothing until the next mark
	MarkFrames = "frames" // each output is a frame, until the next one: what Condense writes
	MarkLapse  = "lapse " // so many frames from here to the next mark, evenly over the time between, each shown for a tick
)

// An event of a session is output, or a mark.
type shot struct {
	at   time.Duration
	kind string
	data string
}

// A movie is a sequence of frames: per row of the screen the index of what it shows. Equal rows have equal indices.
type movie struct {
	w, h   int
	look   Look
	rows   []string // drawn
	index  map[string]int
	frames [][]int
	texts  []string // of the rows of the newest frame
	ticks  []int    // how long each frame is shown
	timed  bool     // how long the newest is shown does not depend on when the next one comes
	class  map[string]int
}

// Movie draws a session that [Cast.WriteTo] wrote as an SVG that plays in a loop. It is animated with CSS alone, which
// browsers run in images too, and draws each distinct row once.
func Movie(w io.Writer, cast io.Reader, look Look) error {
	m, title, err := play(cast, look, func(*vt.Emulator) {})
	if err != nil {
		return err
	}
	return m.write(w, title)
}

// play runs a session and returns its frames and its title. Each frame is also passed to shown, on the terminal.
func play(cast io.Reader, look Look, shown func(*vt.Emulator)) (m *movie, title string, err error) {
	lines := bufio.NewScanner(cast)
	lines.Buffer(nil, 16<<20)
	var header struct {
		Width, Height int
		Title         string
	}
	lines.Scan()
	if err := json.Unmarshal(lines.Bytes(), &header); err != nil {
		return nil, "", fmt.Errorf("header of the session: %w", err)
	}
	m = &movie{w: header.Width, h: header.Height, look: look, index: map[string]int{}, texts: make([]string, header.Height), class: map[string]int{}}
	emu := vt.NewEmulator(m.w, m.h)
	go func() { _, _ = io.Copy(io.Discard, emu) }() // the emulator's answers
	if pipe, ok := emu.InputPipe().(io.Closer); ok {
		defer func() { _ = pipe.Close() }() // ends the copying
	}
	shots, err := shotsOf(lines)
	if err != nil {
		return nil, "", err
	}
	d := director{m: m, emu: emu, shown: shown, mark: MarkPlay}
	for i, s := range shots {
		d.before(s.at)
		switch s.kind {
		case "m":
			if err := d.cue(s, shots[i+1:]); err != nil {
				return nil, "", err
			}
		case "o":
			if _, err := emu.WriteString(s.data); err != nil {
				return nil, "", err
			}
		}
	}
	return m, header.Title, nil
}

// shotsOf reads the events of a session.
func shotsOf(lines *bufio.Scanner) ([]shot, error) {
	var out []shot
	for lines.Scan() {
		var seconds float64
		var s shot
		if err := json.Unmarshal(lines.Bytes(), &[]any{&seconds, &s.kind, &s.data}); err != nil {
			return nil, fmt.Errorf("event of the session: %w", err)
		}
		s.at = time.Duration(seconds * float64(time.Second))
		out = append(out, s)
	}
	return out, lines.Err()
}

// A director decides which screens of a session become frames.
type director struct {
	m           *movie
	emu         *vt.Emulator
	shown       func(*vt.Emulator)
	mark        string
	last, taken time.Duration // the event before, and the newest frame
	next, every time.Duration // of a lapse
}

// before looks at the screen before an event.
func (d *director) before(at time.Duration) {
	switch {
	case d.mark == MarkPlay && at-d.last >= settled && d.m.take(d.emu, d.last-d.taken, frameSettled):
		d.taken = d.last
		d.shown(d.emu)
	case d.mark == MarkFrames && at > d.last && d.m.take(d.emu, at-d.last, frameTimed):
		d.shown(d.emu)
	case strings.HasPrefix(d.mark, MarkLapse) && at >= d.next:
		for d.next <= at {
			d.next += d.every
		}
		if d.m.take(d.emu, 0, frameOfLapse) {
			d.shown(d.emu)
		}
		d.taken = at
	}
	d.last = at
}

// cue follows a mark. later are the events after it.
func (d *director) cue(s shot, later []shot) error {
	d.mark = s.data
	switch {
	case s.data == MarkPlay || s.data == MarkSkip || s.data == MarkFrames:
	case s.data == MarkHold:
		if d.m.take(d.emu, s.at-d.taken, frameHeld) {
			d.shown(d.emu)
		}
	case strings.HasPrefix(s.data, MarkLapse):
		frames, err := strconv.Atoi(strings.TrimPrefix(s.data, MarkLapse))
		if err != nil || frames < 1 || len(later) == 0 {
			return fmt.Errorf("mark %q of the session: not a number of frames with events after it", s.data)
		}
		end := later[len(later)-1].at
		if i := slices.IndexFunc(later, func(s shot) bool { return s.kind == "m" }); i >= 0 {
			end = later[i].at
		}
		d.every = max((end-s.at)/time.Duration(frames), time.Millisecond)
		d.next = s.at + d.every
	default:
		return fmt.Errorf("mark %q of the session: unknown", s.data)
	}
	d.taken = s.at
	return nil
}

// The kinds of frames.
const (
	frameSettled = iota // of a screen that has settled, if it differs enough
	frameOfLapse
	frameHeld
	frameTimed // shown for as long as is given
)

// take adds the screen as a frame, some time after the last one, if it differs, or differs enough.
func (m *movie) take(emu *vt.Emulator, since time.Duration, kind int) bool {
	texts, changed := make([]string, m.h), 0
	for y := range texts {
		var b strings.Builder
		for x := range m.w {
			if c := emu.CellAt(x, y); c != nil {
				b.WriteString(c.Content)
			}
		}
		texts[y] = strings.TrimRight(b.String(), " ")
		if texts[y] != m.texts[y] {
			changed++
		}
	}
	if kind == frameSettled && (changed == 0 || changed < m.h/3 && since < step) {
		return false
	}
	frame := make([]int, m.h)
	for y := range frame {
		s := m.drawRow(runs(screenOf{emu}, y, m.w))
		if _, ok := m.index[s]; !ok {
			m.index[s] = len(m.rows)
			m.rows = append(m.rows, s)
		}
		frame[y] = m.index[s]
	}
	n := len(m.ticks)
	if same := n > 0 && slices.Equal(frame, m.frames[n-1]); same {
		if kind == frameHeld {
			m.ticks[n-1], m.timed = longest, true
		}
		return false
	}
	if n > 0 && !m.timed && kind != frameTimed {
		m.ticks[n-1] = min(max(1, int(since/tick)), longest)
	}
	m.texts, m.frames = texts, append(m.frames, frame)
	shown := longest
	switch kind {
	case frameOfLapse:
		shown = 1
	case frameTimed:
		shown = min(max(1, int(since/tick)), longest)
	}
	m.ticks, m.timed = append(m.ticks, shown), kind != frameSettled
	return true
}

type screenOf struct{ *vt.Emulator }

func (s screenOf) Size() (int, int)       { return s.Width(), s.Height() }
func (s screenOf) Cell(x, y int) *uv.Cell { return s.CellAt(x, y) }

// Size of a cell of a movie. Whole numbers make short paths: eighths of blocks and dots of braille are whole as well.
const (
	movieW = 8
	movieH = 16
)

// drawRow draws a row: each word at its column, and shapes in place of the characters that tile.
func (m *movie) drawRow(row []run) string {
	var b, words strings.Builder
	paths := map[string]string{}
	for _, r := range row {
		fg, bg := hex(r.style.Fg, m.look.Foreground), hex(r.style.Bg, "")
		if r.style.Attrs&uv.AttrReverse != 0 {
			fg, bg = cmp.Or(bg, m.look.Background), fg
		}
		if bg != "" {
			fmt.Fprintf(&b, `<path class="%s" d="M%d 0h%dv%dh-%dz"/>`, m.classOf("fill:"+bg), r.x*movieW, len(r.cells)*movieW, movieH, len(r.cells)*movieW)
		}
		css := "fill:" + fg
		if r.style.Attrs&uv.AttrBold != 0 {
			css += ";font-weight:bold"
		}
		class := m.classOf(css)
		cells := slices.Clone(r.cells)
		for i, c := range cells {
			char, size := utf8.DecodeRuneInString(c)
			kind, d := tile(char, (r.x+i)*movieW)
			if d == "" || size != len(c) {
				continue
			}
			style := map[string]string{"fill": "fill:", "line": "fill:none;stroke:", "dots": "fill:none;stroke-width:2;stroke:"}[kind] + fg
			paths[m.classOf(style)] += d
			cells[i] = " "
		}
		for i := 0; i < len(cells); { // words, each at its column
			n := slices.Index(cells[i:], " ")
			if n < 0 {
				n = len(cells) - i
			}
			if n > 0 {
				fmt.Fprintf(&words, `<tspan x="%d" textLength="%d" class="%s">%s</tspan>`, (r.x+i)*movieW, n*movieW, class, escape(strings.Join(cells[i:i+n], "")))
			}
			i += n + 1
		}
	}
	if words.Len() > 0 {
		fmt.Fprintf(&b, `<text y="12">%s</text>`, words.String())
	}
	for _, class := range slices.Sorted(maps.Keys(paths)) {
		fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, class, paths[class])
	}
	return b.String()
}

// classOf is the name of a class with a style.
func (m *movie) classOf(css string) string {
	if _, ok := m.class[css]; !ok {
		m.class[css] = len(m.class)
	}
	return fmt.Sprintf("c%d", m.class[css])
}

// tile draws a character that tiles with its neighbours in the cell at x, as path data of a kind: fill, line or dots. It
// returns no data for characters that fonts draw.
func tile(c rune, x int) (kind, d string) {
	rect := func(y, w, h int) string { return fmt.Sprintf("M%d %dh%dv%dh-%dz", x, y, w, h, w) }
	mx := x + movieW/2
	switch {
	case c > 0x2800 && c <= 0x28ff:
		for bit, at := range [8][2]int{{1, 2}, {1, 6}, {1, 10}, {5, 2}, {5, 6}, {5, 10}, {1, 14}, {5, 14}} {
			if c&(1<<bit) != 0 {
				d += fmt.Sprintf("M%d %dh2", x+at[0], at[1])
			}
		}
		return "dots", d
	case c >= 0x2581 && c <= 0x2588: // ▁ to █
		h := 2 * int(c-0x2580)
		return "fill", rect(movieH-h, movieW, h)
	case c >= 0x2589 && c <= 0x258f: // ▉ to ▏
		return "fill", rect(0, int(0x2590-c), movieH)
	case c >= 0x2591 && c <= 0x2593: // ░ to ▓, as stripes
		for y := 1; y < movieH; y += 4 {
			d += rect(y, movieW, int(c-0x2590))
		}
		return "fill", d
	}
	i := strings.IndexRune("─│├┤┬┴┼└┌┐┘╭╮╰╯", c)
	if i < 0 {
		return "", ""
	}
	arms := strings.Fields("h-4h4 v-8v8 h4v-8v8 h-4v-8v8 h-4h4v8 h-4h4v-8 h-4h4v-8v8 h4v-8 h4v8 h-4v8 h-4v-8 h4v8 h-4v8 h4v-8 h-4v-8")[i/len("─")]
	return "line", strings.NewReplacer("h", fmt.Sprintf("M%d 8h", mx), "v", fmt.Sprintf("M%d 8v", mx)).Replace(arms)
}

// write writes the movie: styles, the distinct rows, and per frame where the rows are.
func (m *movie) write(w io.Writer, title string) error {
	total := 0
	for _, n := range m.ticks {
		total += n
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 %d %d" role="img" aria-label="%s">`+"\n<style>", m.w*movieW+20, m.h*movieH+20, escape(title))
	fmt.Fprintf(&b, "text{font:13.3px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}.f{visibility:hidden;animation:%.1fs step-end infinite}\n", float64(total)*tick.Seconds())
	for n := 1; n <= longest; n++ {
		fmt.Fprintf(&b, "@keyframes k%d{0%%{visibility:visible}%.3f%%{visibility:hidden}}.t%d{animation-name:k%d}\n", n, 100*float64(n)/float64(total), n, n)
	}
	for _, css := range slices.Sorted(maps.Keys(m.class)) {
		fmt.Fprintf(&b, ".c%d{%s}", m.class[css], css)
	}
	fmt.Fprintf(&b, "</style>\n<rect x=\"-10\" y=\"-10\" width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"%s\"/>\n<defs>\n", m.look.Background)
	for i, r := range m.rows {
		if r != "" {
			fmt.Fprintf(&b, "<g id=\"r%d\">%s</g>\n", i, r)
		}
	}
	b.WriteString("</defs>\n")
	at := 0
	for i, frame := range m.frames {
		fmt.Fprintf(&b, `<g class="f t%d" style="animation-delay:%.1fs">`, m.ticks[i], float64(at)*tick.Seconds())
		for y, r := range frame {
			if m.rows[r] != "" {
				fmt.Fprintf(&b, `<use href="#r%d" y="%d"/>`, r, y*movieH)
			}
		}
		b.WriteString("</g>\n")
		at += m.ticks[i]
	}
	b.WriteString("</svg>\n")
	_, err := b.WriteTo(w)
	return err
}
