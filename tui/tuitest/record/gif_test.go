package record

import (
	"bytes"
	"image/color"
	"image/gif"
	"io"
	"strings"
	"testing"
	"time"
)

// TestGIF draws a session of two frames and looks at pixels: the background, a block, a letter, and what did not change.
func TestGIF(t *testing.T) {
	c := NewCast(6, 3, "a session")
	at := time.Unix(1000, 0)
	for _, output := range []string{"\x1b[2J\x1b[1;1H\x1b[31m█\x1b[m H\r\n\x1b[44m  \x1b[m", "\x1b[2J\x1b[1;1H\x1b[31m█\x1b[m H\r\n\x1b[44m  \x1b[m\r\n⣿┼", ""} {
		at = at.Add(time.Second)
		c.Output(at, []byte(output+"\x1b[m"))
	}
	var session, movie bytes.Buffer
	if _, err := c.WriteTo(&session); err != nil {
		t.Fatal(err)
	}
	if err := GIF(&movie, &session, Dark()); err != nil {
		t.Fatal(err)
	}
	g, err := gif.DecodeAll(&movie)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Image) != 2 || g.Config.Width != 6*movieW || g.Config.Height != 3*movieH || g.LoopCount != 0 {
		t.Fatalf("%d frames of %d×%d, loop %d", len(g.Image), g.Config.Width, g.Config.Height, g.LoopCount)
	}
	background := color.RGBA{0x15, 0x18, 0x1e, 0xff}
	first := g.Image[0]
	if got := color.RGBAModel.Convert(first.At(5*movieW, 2)); got != background {
		t.Errorf("background %v, want %v", got, background)
	}
	for _, at := range [][2]int{{0, 0}, {movieW - 1, movieH - 1}} { // the block fills its cell
		if got := color.RGBAModel.Convert(first.At(at[0], at[1])).(color.RGBA); got.R <= got.B || got.R <= got.G {
			t.Errorf("the block at %v is %v, want red", at, got)
		}
	}
	if got := color.RGBAModel.Convert(first.At(movieW, movieH+3)).(color.RGBA); got.B <= got.R {
		t.Errorf("the cell on blue is %v", got)
	}
	lit := 0
	for y := range movieH {
		for x := 2 * movieW; x < 3*movieW; x++ {
			if color.RGBAModel.Convert(first.At(x, y)) != background {
				lit++
			}
		}
	}
	if lit < 20 || lit > movieW*movieH/2 {
		t.Errorf("the letter H covers %d of %d pixels", lit, movieW*movieH)
	}
	if second := g.Image[1].Bounds(); second.Min.Y < 2*movieH || second.Max.X > 2*movieW {
		t.Errorf("the second frame redraws %v, want the last row alone", second)
	}
	p, err := newPainter(Dark())
	if err != nil {
		t.Fatal(err)
	}
	for char := range signs { // the fonts draw nothing or a box for them
		covered := 0
		for _, v := range p.glyph(char, false) {
			covered += int(v)
		}
		if covered == 0 {
			t.Errorf("%c is not drawn", char)
		}
	}
	if GIF(io.Discard, strings.NewReader("no session"), Dark()) == nil {
		t.Error("a movie was made of something else")
	}
}
