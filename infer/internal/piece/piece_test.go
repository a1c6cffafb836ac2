package piece

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAssembler(t *testing.T) {
	tests := []struct {
		name    string
		stop    []string
		in      []string
		want    []string // text of each Push, then of Flush
		stopped bool
	}{
		{"whole", nil, []string{"ab", "c"}, []string{"ab", "c", ""}, false},
		{"split rune", nil, []string{"a\xe2", "\x82", "\xac!"}, []string{"a", "", "€!", ""}, false},
		{"emoji in four", nil, []string{"\xf0", "\x9f", "\x98", "\x80"}, []string{"", "", "", "😀", ""}, false},
		{"unfinished", nil, []string{"a\xe2\x82"}, []string{"a", "\uFFFD"}, false},
		{"invalid", nil, []string{"a\xffb"}, []string{"a\uFFFDb", ""}, false},
		{"lone continuation bytes", nil, []string{"\x80\x80\x80\x80"}, []string{"\uFFFD", ""}, false},
		{"stop", []string{"\nUser:"}, []string{"hi\nUs", "er: x"}, []string{"hi", ""}, true},
		{"stop begun only", []string{"END"}, []string{"aE", "Nx", "E"}, []string{"a", "ENx", "", "E"}, false},
		{"earliest stop", []string{"c", "b"}, []string{"abc"}, []string{"a"}, true},
		{"empty stop string", []string{""}, []string{"abc"}, []string{"abc", ""}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := Assembler{Stop: tt.stop}
			var got []string
			stopped := false
			for _, in := range tt.in {
				var text string
				text, stopped = a.Push([]byte(in))
				got = append(got, text)
			}
			if !stopped {
				got = append(got, a.Flush())
			}
			if strings.Join(got, "|") != strings.Join(tt.want, "|") || stopped != tt.stopped {
				t.Errorf("got %q, stopped %v; want %q, %v", got, stopped, tt.want, tt.stopped)
			}
		})
	}
}

// FuzzAssembler cuts text anywhere: the pieces are always valid UTF-8 and join to the whole.
func FuzzAssembler(f *testing.F) {
	f.Add("héllo €", 3, "stop")
	f.Fuzz(func(t *testing.T, text string, cut int, stop string) {
		if cut < 1 {
			cut = 1
		}
		a := Assembler{Stop: []string{stop}}
		var out strings.Builder
		stopped := false
		for rest := text; rest != "" && !stopped; {
			n := min(cut, len(rest))
			var piece string
			piece, stopped = a.Push([]byte(rest[:n]))
			if !utf8.ValidString(piece) {
				t.Fatalf("piece %q is not valid", piece)
			}
			out.WriteString(piece)
			rest = rest[n:]
		}
		if !stopped {
			out.WriteString(a.Flush())
		}
		if !utf8.ValidString(text) {
			return
		}
		want := text
		if stop != "" {
			want, _, _ = strings.Cut(text, stop)
		}
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
}
