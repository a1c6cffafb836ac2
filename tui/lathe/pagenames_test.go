package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui"
)

// TestNamesInPages checks that the targets of make, the packages and tests of go test, the tests and the files that pages name exist.
func TestNamesInPages(t *testing.T) {
	const root = "../.."
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	files := tracked(t)
	tests, exists := map[string][]string{}, map[string]bool{} // by folder, by name
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz|Example)\w+)\(`)
	for _, path := range files {
		if !strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			continue // removed and not committed
		}
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			tests[filepath.Dir(path)], exists[m[1]] = append(tests[filepath.Dir(path)], m[1]), true
		}
	}
	target := regexp.MustCompile(`^[a-z][a-z-]*$`)
	name := regexp.MustCompile(`^(?:Test|Benchmark|Fuzz)[A-Z]\w*$`)
	file := regexp.MustCompile(`^[\w./-]+\.(?:go|txtar)$`)
	for path, page := range pages(t) {
		if strings.Contains(path, "/adr/") {
			continue
		}
		lines, spans := code(page)
		for _, line := range append(lines, spans...) {
			for _, words := range simple(line) {
				for len(words) > 0 && assignment.MatchString(words[0]) {
					words = words[1:]
				}
				switch {
				case len(words) > 1 && words[0] == "make" && target.MatchString(words[1]):
					if !regexp.MustCompile(`(?m)^` + words[1] + `:`).Match(makefile) {
						t.Errorf("%s: the Makefile has no target %s", path, words[1])
					}
				case len(words) > 1 && words[0] == "go" && words[1] == "test":
					if err := testsExist(words[2:], tests); err != nil {
						t.Errorf("%s: %s: %v", path, line, err)
					}
				}
			}
		}
		for _, span := range spans {
			switch {
			case name.MatchString(span) && !exists[span]:
				t.Errorf("%s names %s, which does not exist", path, span)
			case file.MatchString(span) && !slices.ContainsFunc(files, func(f string) bool { return f == span || strings.HasSuffix(f, "/"+span) }):
				t.Errorf("%s names %s, which does not exist", path, span)
			}
		}
	}
}

// testsExist returns an error if a call of go test names a package without tests, or has a pattern that no test of its packages matches.
func testsExist(args []string, tests map[string][]string) error {
	var found []string
	var patterns []string
	named := false
	for i := 0; i < len(args); i++ {
		switch {
		case (args[i] == "-run" || args[i] == "-bench") && i+1 < len(args):
			i++
			patterns = append(patterns, args[i])
		case strings.HasPrefix(args[i], "./"):
			named = true
			dir, below := strings.CutSuffix(strings.TrimPrefix(args[i], "./"), "/...")
			n := len(found)
			for folder, list := range tests {
				if folder == dir || below && strings.HasPrefix(folder, dir+"/") || dir == "..." {
					found = append(found, list...)
				}
			}
			if len(found) == n {
				return fmt.Errorf("%s has no tests", args[i])
			}
		}
	}
	if !named {
		return nil // in the current folder
	}
	for _, p := range patterns {
		for _, one := range strings.Split(p, "|") {
			one, _, _ = strings.Cut(one, "/")
			if one == "xxx" || one == "." || one == "^$" { // none, all
				continue
			}
			re, err := regexp.Compile(one)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(found, re.MatchString) {
				return fmt.Errorf("no test matches %s", one)
			}
		}
	}
	return nil
}

// TestKeysInGuide checks that each key in the guide is one of the screen that the section named last, or of all screens.
func TestKeysInGuide(t *testing.T) {
	names := map[string]string{"←": "left", "→": "right", "↑": "up", "↓": "down"}
	keys := map[string]map[string]bool{} // by screen, "" for any
	for _, a := range tui.Actions() {
		for _, k := range a.Keys {
			for _, screen := range []string{a.Scope, ""} {
				if keys[screen] == nil {
					keys[screen] = map[string]bool{}
				}
				keys[screen][k] = true
			}
		}
	}
	everywhere := map[string]bool{"esc": true} // which no action has
	for _, a := range tui.Actions() {
		if !slices.Contains(tui.ScreenNames(), a.Scope) {
			for _, k := range a.Keys {
				everywhere[k] = true
			}
		}
	}
	token := regexp.MustCompile("`([^`]+)`|\\b(Search|Masks|Reform|Chat|Bench|Library)\\b")
	key := regexp.MustCompile(`^(?:.|space|enter|tab|esc|delete|backspace|ctrl\+.)$`)
	checked := 0
	for _, section := range strings.Split(pages(t)["explorer/docs/guide.md"], "\n## ") {
		screen := ""
		for _, line := range strings.Split(section, "\n")[1:] {
			if strings.HasPrefix(line, "    ") {
				continue
			}
			for _, m := range token.FindAllStringSubmatch(line, -1) {
				if m[2] != "" {
					screen = strings.ToLower(m[2])
				}
				if !key.MatchString(m[1]) {
					continue
				}
				k := m[1]
				if names[k] != "" {
					k = names[k]
				}
				if checked++; !keys[screen][k] && !everywhere[k] {
					t.Errorf("%q: no action of %q has the key %s", line, screen, m[1])
				}
			}
		}
	}
	if checked < 25 {
		t.Errorf("%d keys in the guide", checked)
	}
}

// TestDefaultsInPages compares the defaults that the pages and the help name with those of the program.
func TestDefaultsInPages(t *testing.T) {
	mix := explorer.DefaultMix()
	texts := make([]string, len(mix))
	for i, m := range mix {
		texts[i] = fmt.Sprintf("%s %g", m.Name, m.Share)
	}
	all := pages(t)
	for _, c := range []struct{ page, pattern, want string }{
		{"README.md", `by its defaults, (\d+ windows and \d+ steps)`, fmt.Sprintf("%d windows and %d steps", explorer.FitWindows, explorer.DefaultTuneSteps)},
		{"explorer/docs/guide.md", `By default it uses (\d+ windows) and`, fmt.Sprintf("%d windows", explorer.FitWindows)},
		{"explorer/docs/guide.md", `for (\d+ steps)`, fmt.Sprintf("%d steps", explorer.DefaultTuneSteps)},
		{"search/docs/results.md", `The default cut \((\d+ windows, \d+ steps)`, fmt.Sprintf("%d windows, %d steps", explorer.FitWindows, explorer.DefaultTuneSteps)},
		{"search/docs/results.md", `\| (wiki [^|]*), the default \|`, strings.Join(texts, ", ")},
		{"CONTRIBUTING.md", `calibration window \| sequence of calibration tokens, (\d+) by default`, fmt.Sprint(explorer.DefaultSeq)},
	} {
		found := regexp.MustCompile(c.pattern).FindAllStringSubmatch(strings.ReplaceAll(all[c.page], "\n", " "), -1)
		if len(found) == 0 {
			t.Errorf("%s does not name the default: %s", c.page, c.pattern)
		}
		for _, m := range found {
			if m[1] != c.want {
				t.Errorf("%s: %s, want %s", c.page, m[0], c.want)
			}
		}
	}
	// Everything that re-fits weights uses as many windows as cuts; searches have a rule of their own.
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		windows := c.Flags().Lookup("windows")
		if windows != nil && (c.Flags().Lookup("reform") != nil || c.Name() == "fit") && c.Name() != "search" && !strings.Contains(windows.Usage, fmt.Sprintf("(default %d)", explorer.FitWindows)) {
			t.Errorf("%s --windows: %s", c.CommandPath(), windows.Usage)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&app{}))
}

// TestVariablesAreDocumented checks that each variable of the environment that the program reads by a name of its own is in the pages, and
// that the pages name no others.
func TestVariablesAreDocumented(t *testing.T) {
	variable := regexp.MustCompile(`\bLATHE_[A-Z_]*[A-Z]\b`)
	read, named := map[string]bool{}, map[string]bool{}
	for _, path := range tracked(t, "*.go", "*.py", "Makefile", ".ci/*", "*.sh") {
		text, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			continue // removed and not committed
		}
		test := strings.HasSuffix(path, "_test.go")
		for _, v := range variable.FindAllString(string(text), -1) {
			read[v] = read[v] || !test
		}
	}
	for _, page := range pages(t) {
		for _, v := range variable.FindAllString(page, -1) {
			if _, ok := read[v]; !ok {
				t.Errorf("no file reads %s", v)
			}
			named[v] = true
		}
	}
	for v, program := range read {
		if program && !named[v] && !strings.HasPrefix(v, "LATHE_TEST_") {
			t.Errorf("%s is in no page", v)
		}
	}
}
