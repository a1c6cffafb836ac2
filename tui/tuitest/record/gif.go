package record

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// A picture is a frame in colours 0xrrggbb, row by row.
type picture []uint32

// GIF draws a session that [Cast.WriteTo] wrote as an animated GIF that plays in a loop, with the frames of [Movie].
func GIF(w io.Writer, cast io.Reader, look Look) error {
	p, err := newPainter(look)
	if err != nil {
		return err
	}
	var pictures []picture
	m, _, err := play(cast, look, func(emu *vt.Emulator) { pictures = append(pictures, p.paint(emu)) })
	if err != nil {
		return err
	}
	if len(pictures) == 0 {
		return errors.New("the session shows nothing")
	}
	return gif.EncodeAll(w, animate(pictures, m.w*movieW, m.h*movieH, m.ticks))
}

// painter draws screens. The letters are those of the Go fonts; characters that tile are drawn as in a movie.
type painter struct {
	look          Look
	regular, bold font.Face
	glyphs        map[glyphKey][]uint8
}

type glyphKey struct {
	char rune
	bold bool
}

// fontSize is the size in pixels at which a letter of the Go fonts is as wide as a cell.
const fontSize = movieW / 0.6

// baseline is the row of a cell that letters stand on.
const baseline = 12

func newPainter(look Look) (*painter, error) {
	p := &painter{look: look, glyphs: map[glyphKey][]uint8{}}
	for to, data := range map[*font.Face][]byte{&p.regular: gomono.TTF, &p.bold: gomonobold.TTF} {
		parsed, err := opentype.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("font: %w", err)
		}
		if *to, err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: fontSize, DPI: 72, Hinting: font.HintingFull}); err != nil {
			return nil, fmt.Errorf("font: %w", err)
		}
	}
	return p, nil
}

func (p *painter) paint(emu *vt.Emulator) picture {
	w := emu.Width() * movieW
	pic := make(picture, w*emu.Height()*movieH)
	for y := range emu.Height() {
		for x := 0; x < emu.Width(); x++ {
			content, style := " ", uv.Style{}
			if c := emu.CellAt(x, y); c != nil {
				content, style = c.Content, c.Style
			}
			fg, bg := number(hex(style.Fg, p.look.Foreground)), number(hex(style.Bg, p.look.Background))
			if style.Attrs&uv.AttrReverse != 0 {
				fg, bg = bg, fg
			}
			if style.Attrs&uv.AttrFaint != 0 {
				fg = mix(bg, fg, 2)
			}
			char, size := utf8.DecodeRuneInString(content)
			var mask []uint8
			if size == len(content) {
				mask = p.glyph(char, style.Attrs&uv.AttrBold != 0)
			}
			for i := range movieW * movieH {
				colour := bg
				if mask != nil {
					colour = mix(bg, fg, mask[i])
				}
				pic[(y*movieH+i/movieW)*w+x*movieW+i%movieW] = colour
			}
		}
	}
	return pic
}

// shades is how many shades a glyph has between background and foreground.
const shades = 3

// glyph returns how much of each pixel of a cell a character covers, from 0 to shades, nil for nothing.
func (p *painter) glyph(char rune, bold bool) []uint8 {
	if char == ' ' || char == 0 || char == utf8.RuneError {
		return nil
	}
	key := glyphKey{char, bold}
	mask, ok := p.glyphs[key]
	if ok {
		return mask
	}
	if mask = tileMask(char); mask == nil {
		mask = p.letter(char, bold)
	}
	p.glyphs[key] = mask
	return mask
}

// letter draws a character of the font.
func (p *painter) letter(char rune, bold bool) []uint8 {
	face := p.regular
	if bold {
		face = p.bold
	}
	at, drawn, from, _, ok := face.Glyph(fixed.P(0, baseline), char)
	mask := make([]uint8, movieW*movieH)
	if !ok {
		return mask
	}
	for y := at.Min.Y; y < at.Max.Y; y++ {
		for x := at.Min.X; x < at.Max.X; x++ {
			if x < 0 || x >= movieW || y < 0 || y >= movieH {
				continue
			}
			_, _, _, a := drawn.At(from.X+x-at.Min.X, from.Y+y-at.Min.Y).RGBA()
			mask[y*movieW+x] = uint8((a*shades + 0x7fff) / 0xffff)
		}
	}
	return mask
}

// tileMask draws a character that tiles with its neighbours, nil for others.
func tileMask(char rune) []uint8 {
	mask := make([]uint8, movieW*movieH)
	rect := func(x0, y0, x1, y1 int) {
		for y := y0; y < y1; y++ {
			for x := x0; x < x1; x++ {
				mask[y*movieW+x] = shades
			}
		}
	}
	switch {
	case char > 0x2800 && char <= 0x28ff:
		for bit, at := range [8][2]int{{1, 1}, {1, 5}, {1, 9}, {5, 1}, {5, 5}, {5, 9}, {1, 13}, {5, 13}} {
			if char&(1<<bit) != 0 {
				rect(at[0], at[1], at[0]+2, at[1]+2)
			}
		}
		return mask
	case char == 0x2580: // ▀
		rect(0, 0, movieW, movieH/2)
		return mask
	case char >= 0x2581 && char <= 0x2588: // ▁ to █
		rect(0, movieH-2*int(char-0x2580), movieW, movieH)
		return mask
	case char >= 0x2589 && char <= 0x258f: // ▉ to ▏
		rect(0, 0, int(0x2590-char), movieH)
		return mask
	case char >= 0x2591 && char <= 0x2593: // ░ to ▓
		for i := range mask {
			mask[i] = uint8(char - 0x2590)
		}
		return mask
	}
	if rows, ok := signs[char]; ok {
		for y, bits := range rows {
			for x := range movieW {
				if bits>>(movieW-1-x)&1 != 0 {
					mask[(y+4)*movieW+x] = shades
				}
			}
		}
		return mask
	}
	const left, right, up, down = 1, 2, 4, 8
	arms := map[rune]int{'─': left | right, '│': up | down, '├': up | down | right, '┤': up | down | left, '┬': left | right | down, '┴': left | right | up,
		'┼': left | right | up | down, '└': up | right, '┌': down | right, '┐': down | left, '┘': up | left, '╭': down | right, '╮': down | left, '╰': up | right, '╯': up | left}[char]
	if arms == 0 {
		return nil
	}
	const mx, my = movieW / 2, movieH / 2
	if arms&left != 0 {
		rect(0, my, mx+1, my+1)
	}
	if arms&right != 0 {
		rect(mx, my, movieW, my+1)
	}
	if arms&up != 0 {
		rect(mx, 0, mx+1, my+1)
	}
	if arms&down != 0 {
		rect(mx, my, mx+1, movieH)
	}
	return mask
}

// signs are characters that the fonts lack, as rows of bits below the upper quarter of a cell.
var signs = map[rune][8]uint8{
	'▸': {0, 0x20, 0x30, 0x38, 0x3c, 0x38, 0x30, 0x20},
	'◂': {0, 0x04, 0x0c, 0x1c, 0x3c, 0x1c, 0x0c, 0x04},
	'▴': {0, 0, 0x10, 0x10, 0x38, 0x38, 0x7c, 0x7c},
	'▾': {0, 0, 0x7c, 0x7c, 0x38, 0x38, 0x10, 0x10},
	'◆': {0, 0x10, 0x38, 0x7c, 0xfe, 0x7c, 0x38, 0x10},
	'◇': {0, 0x10, 0x28, 0x44, 0x82, 0x44, 0x28, 0x10},
	'▣': {0xfe, 0x82, 0xba, 0xba, 0xba, 0x82, 0xfe, 0},
	'✓': {0x02, 0x02, 0x04, 0x04, 0x88, 0x48, 0x30, 0x10},
	'✗': {0x82, 0x44, 0x28, 0x10, 0x28, 0x44, 0x82, 0},
	'⏎': {0x02, 0x02, 0x22, 0x42, 0xfe, 0x40, 0x20, 0},
	'↵': {0x02, 0x02, 0x22, 0x42, 0xfe, 0x40, 0x20, 0},
}

// mix returns the colour that is so many shades from one to another.
func mix(from, to uint32, shade uint8) uint32 {
	var out uint32
	for shift := 0; shift < 24; shift += 8 {
		a, b := int(from>>shift&0xff), int(to>>shift&0xff)
		out |= uint32(a+(b-a)*int(shade)/shades) << shift
	}
	return out
}

// number parses #rrggbb.
func number(hex string) (v uint32) {
	if _, err := fmt.Sscanf(strings.TrimPrefix(hex, "#"), "%x", &v); err != nil {
		return 0
	}
	return v
}

// animate makes an animation of pictures: each frame is the rectangle that changed, transparent where it did not.
func animate(pictures []picture, w, h int, ticks []int) *gif.GIF {
	colours, index := paletteOf(pictures)
	transparent := uint8(len(colours))
	full := append(slices.Clone(colours), color.RGBA{})
	out := &gif.GIF{Config: image.Config{ColorModel: full, Width: w, Height: h}}
	var shown []uint8
	for i, pic := range pictures {
		now := make([]uint8, len(pic))
		changed := image.Rectangle{}
		for k, c := range pic {
			if now[k] = index[c]; i == 0 || now[k] != shown[k] {
				changed = changed.Union(image.Rect(k%w, k/w, k%w+1, k/w+1))
			}
		}
		frame := image.NewPaletted(changed, full)
		for y := changed.Min.Y; y < changed.Max.Y; y++ {
			for x := changed.Min.X; x < changed.Max.X; x++ {
				v := now[y*w+x]
				if i > 0 && v == shown[y*w+x] {
					v = transparent
				}
				frame.SetColorIndex(x, y, v)
			}
		}
		shown = now
		out.Image = append(out.Image, frame)
		out.Delay = append(out.Delay, ticks[i]*int(tick.Milliseconds())/10)
		out.Disposal = append(out.Disposal, gif.DisposalNone)
	}
	return out
}

// paletteOf returns the most frequent colours of pictures, at most 255, and for each colour the index of the nearest of them.
func paletteOf(pictures []picture) (color.Palette, map[uint32]uint8) {
	counts := map[uint32]int{}
	for _, pic := range pictures {
		for _, c := range pic {
			counts[c]++
		}
	}
	all := slices.SortedFunc(maps.Keys(counts), func(a, b uint32) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return int(a) - int(b)
	})
	kept := all[:min(len(all), 255)]
	var palette color.Palette
	for _, c := range kept {
		palette = append(palette, color.RGBA{uint8(c >> 16), uint8(c >> 8), uint8(c), 0xff})
	}
	index := map[uint32]uint8{}
	for i, c := range all {
		if i < len(kept) {
			index[c] = uint8(i)
			continue
		}
		index[c] = uint8(palette.Index(color.RGBA{uint8(c >> 16), uint8(c >> 8), uint8(c), 0xff}))
	}
	return palette, index
}
