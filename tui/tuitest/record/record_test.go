package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/color"
	"io"
	"strings"
	"testing"
	"time"

	uv "github.com/charmbracelet/ultraviolet"
)

func TestCast(t *testing.T) {
	c := NewCast(80, 24, "a session")
	start := time.Unix(1000, 0)
	c.Output(start, []byte("gr\xc3"))
	c.Output(start.Add(20*time.Millisecond), []byte("\xbc\xc3\x9fe"))
	c.Resize(start.Add(30*time.Second), 100, 30)
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(&b)
	var header struct{ Version, Width, Height int }
	if lines.Scan(); json.Unmarshal(lines.Bytes(), &header) != nil || header.Version != 2 || header.Width != 80 || header.Height != 24 {
		t.Errorf("header %s", lines.Bytes())
	}
	var said strings.Builder
	var last float64
	for lines.Scan() {
		var e []any
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || len(e) != 3 {
			t.Fatalf("event %s: %v", lines.Bytes(), err)
		}
		if e[1] == "o" {
			said.WriteString(e[2].(string))
		}
		last = e[0].(float64)
	}
	if said.String() != "grüße" {
		t.Errorf("output = %q", said.String())
	}
	if last > 2 {
		t.Errorf("a wait of half a minute is kept: %v s", last)
	}
}

// letters is a screen of two rows.
type letters struct{ rows [2]string }

func (l letters) Size() (int, int) { return 8, 2 }

func (l letters) Cell(x, y int) *uv.Cell {
	r := []rune(l.rows[y])
	if x >= len(r) {
		return nil
	}
	c := &uv.Cell{Content: string(r[x]), Width: 1}
	if y == 1 {
		c.Style = uv.Style{Fg: color.RGBA{255, 0, 0, 255}, Attrs: uv.AttrBold}
	}
	return c
}

func TestSVG(t *testing.T) {
	var b bytes.Buffer
	if err := SVG(&b, letters{[2]string{"a<b & c", "bold"}}, `say "hi"`, Dark()); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{"a&lt;b &amp; c", `fill="#ff0000"`, `font-weight="bold"`, "bold</text>"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	var shapes bytes.Buffer
	if err := SVG(&shapes, letters{[2]string{"│█▏⠁░ab", ""}}, "shapes", Dark()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"M16.20 20.50L16.20 12.00", // │ up from the middle of the first cell
		"M20.40 12.00h8.40v17.00h-8.40z",
		"M28.80 12.00h1.05v17.00h-1.05z",
		"M38.5 13.3h1.7v1.7h-1.7z",
		`opacity="0.25"`, `<text x="54.0"`, ">ab</text>",
	} {
		if !strings.Contains(shapes.String(), want) {
			t.Errorf("no %s in\n%s", want, shapes.String())
		}
	}
	d := xml.NewDecoder(&b)
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
