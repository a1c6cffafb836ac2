package jinja

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	now      = time.Date(2024, 7, 5, 9, 8, 7, 0, time.UTC)
	messages = []any{
		[]Pair{{"role", "user"}, {"content", "Hi"}},
		[]Pair{{"role", "assistant"}, {"content", "Yo"}, {"tool_calls", []any{1}}},
	}
	variables = []Pair{{"messages", messages}, {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"tools", nil}}
)

func render(template string) (string, error) { return renderWithin(template, Limits{}) }

func renderWithin(template string, l Limits) (string, error) {
	t, err := Parse(template)
	if err != nil {
		return "", err
	}
	return t.Render(context.Background(), Input{Variables: variables, Now: now, Limits: l})
}

// known are the differences from Python that stay.
var known = map[string]string{
	"{{ 123456789012345678901234567890 }}": "integers have 64 bits",
	"{{ 'abc'.encode is defined }}":        "bytes do not exist",
	"{{ 'abc'.translate is defined }}":     "translate takes tables that templates cannot make",
	"{{ 'abcdefgh' | wordwrap(3) }}":       "wordwrap breaks lines at spaces alone",
	"{{ ('<a>' | safe) + '<b>' }}":         "safe and escape give ordinary texts",
}

// TestExpressions compares with Python's Jinja2 (testdata/expected.py). Where Python fails, rendering must fail too; the
// words of an error are its own.
func TestExpressions(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "expressions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Template, Text, Error string }
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 750 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		if known[row.Template] != "" {
			continue
		}
		got, err := render(row.Template)
		switch {
		case row.Error != "" && err == nil:
			t.Errorf("%q\n gives %q\n Python fails: %s", row.Template, got, row.Error)
		case row.Error == "" && err != nil:
			t.Errorf("%q\n fails: %v\n Python gives %q", row.Template, err, row.Text)
		case row.Error == "" && got != row.Text:
			t.Errorf("%q\n gives %q\n Python %q", row.Template, got, row.Text)
		}
	}
}

func TestErrors(t *testing.T) {
	_, err := render("{{ raise_exception('roles must alternate') }}")
	var raised *RaisedError
	if !errors.As(err, &raised) || raised.Reason != "roles must alternate" {
		t.Errorf("raise_exception gives %v", err)
	}
	_, err = render("a\n{{ x.y }}")
	var failed *RuntimeError
	if !errors.As(err, &failed) || failed.Line != 2 || !strings.Contains(err.Error(), "'x' is undefined") {
		t.Errorf("a use of an undefined value gives %v", err)
	}
	_, err = render("a\n{% if %}")
	var syntax *SyntaxError
	if !errors.As(err, &syntax) || syntax.Line != 2 {
		t.Errorf("a syntax error gives %v", err)
	}
}

// TestLimits: each of these would take hours or all memory.
func TestLimits(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat("{% for i in range(100000) %}", n) + "x" + strings.Repeat("{% endfor %}", n)
	}
	for name, template := range map[string]string{
		"loops":            nested(4),
		"empty loops":      strings.Replace(nested(4), "x", "", 1),
		"text":             "{% set x = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set x.s = x.s + x.s %}{% endfor %}{{ x.s }}",
		"repetition":       "{{ 'abc' * 1000000000000 }}",
		"list repetition":  "{{ ([1] * 1000000000000) | length }}",
		"joined":           "{{ ['a'] * 100000 | join('b' * 100000) }}",
		"replaced":         "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
		"replaced, filter": "{{ ('a' * 100000) | replace('', 'b' * 100000) }}",
		"indented":         "{{ ('\n' * 100000) | indent('b' * 100000) }}",
		"padded":           "{{ 'a'.ljust(2000000000) }}",
		"tabs":             "{{ ('\t' * 100000).expandtabs(100000) }}",
		"macro":            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
		"two macros":       "{% macro f(n) %}{{ g(n) }}{{ g(n) }}{% endmacro %}{% macro g(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}",
		"itself":           "{% set n = namespace() %}{% set n.n = n %}{% set n.m = [n, n, n] %}{{ n }}",
		"lists in lists":   "{% set n = namespace(l=[1]) %}{% for i in range(100) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
		"JSON":             "{% set n = namespace(l=[1]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l | tojson }}",
		"sorted":           "{% for i in range(100000) %}{% set x = range(100000) | list | sort %}{% endfor %}",
		"format":           "{{ '{:100000000}'.format(1) }}",
		"percent":          "{{ '%100000000d' % 1 }}",
		"compared":         "{% set n = namespace(l=[1], m=[1]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}{% set n.m = [n.m, n.m] %}{% endfor %}{{ n.l == n.m }}",
		"ordered":          "{% set n = namespace(l=[1], m=[1]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}{% set n.m = [n.m, n.m] %}{% endfor %}{{ n.l < n.m }}",
		"nested keys":      "{% set n = namespace(t=(1, 2)) %}{% for i in range(90) %}{% set n.t = (n.t, n.t) %}{% endfor %}{{ {n.t: 1} }}",
		"found":            "{% set s = 'ab' * 1000000 %}{% for i in range(100000) %}{{ s.find('ba' * 1000) }}{% endfor %}",
		"characters":       "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{% set c = s[999999] %}{% endfor %}",
		"contained":        "{% set l = range(100000) | list %}{% for i in range(100000) %}{% set x = -1 in l %}{% endfor %}",
		"counted":          "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{% set x = s | length %}{% endfor %}",
	} {
		t.Run(name, func(t *testing.T) {
			if text, err := renderWithin(template, Limits{Steps: 500_000, Allocated: 64 << 20}); err == nil && len(text) > 1<<20 {
				t.Errorf("rendered %d bytes", len(text))
			} else if err == nil && name != "itself" {
				t.Errorf("rendered %.100q", text)
			}
		})
	}
	for _, open := range []string{"(", "[", "{'a': ", "not ", "-", "{% if x %}", "a if b else ", "a[", "f("} {
		template := "{{ " + strings.Repeat(open, 10_000)
		if strings.HasPrefix(open, "{%") {
			template = strings.Repeat(open, 10_000)
		}
		if _, err := Parse(template); err == nil {
			t.Errorf("%q is accepted ten thousand deep", open)
		}
	}
	for _, link := range []string{".a", "[0]", "()", "|upper", " + 1", " or 1", " and 1", " if 1", " is odd", " ~ 1"} {
		if tpl, err := Parse("{{ 1" + strings.Repeat(link, 100_000) + " }}"); err == nil && link != " ~ 1" {
			t.Errorf("a chain of %q is accepted: %v", link, tpl)
		}
	}
	elif := "{% if x %}" + strings.Repeat("{% elif x %}", 50_000) + "{% else %}z{% endif %}"
	if text, err := render(elif); err != nil || text != "z" {
		t.Errorf("a long chain of elif gives %q, %v", text, err)
	}
	if _, err := Parse(strings.Repeat(" ", MaxSource+1)); err == nil {
		t.Error("a huge template is accepted")
	}
}

// TestCancellation stops with the context.
func TestCancellation(t *testing.T) {
	tpl, err := Parse("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := tpl.Render(ctx, Input{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzRender: any template gives text within the limits, or an error.
func FuzzRender(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "expressions.txt"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	limits := Limits{Steps: 100_000, Allocated: 8 << 20, Output: 1 << 20}
	f.Fuzz(func(t *testing.T, template string) {
		tpl, err := Parse(template)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		text, err := tpl.Render(context.Background(), Input{Variables: variables, Now: now, Limits: limits})
		if err == nil && int64(len(text)) > limits.Output {
			t.Errorf("%d bytes", len(text))
		}
	})
}
