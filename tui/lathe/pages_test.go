package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/tui"
)

// pages returns the documentation of the repository by path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	const root = "../.."
	found := map[string]string{}
	for _, path := range tracked(t, "*.md") {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			continue // removed and not committed
		}
		found[path] = string(text)
	}
	return found
}

// tracked returns the files of the repository that match patterns of git.
func tracked(t *testing.T, patterns ...string) []string {
	t.Helper()
	args := append([]string{"-C", "../..", "ls-files", "--cached", "--others", "--exclude-standard"}, patterns...)
	out, err := exec.CommandContext(t.Context(), "git", args...).Output()
	if err != nil {
		t.Skipf("not a clone: %v", err)
	}
	return strings.Fields(string(out))
}

// code returns the code of a page: the lines of its blocks, with continued ones joined, and the spans in its prose.
func code(page string) (lines, spans []string) {
	var prose strings.Builder
	fenced, block := false, true // a block may begin at the start, or after an empty line
	for _, line := range strings.Split(strings.ReplaceAll(page, "\\\n", " "), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced, block && strings.HasPrefix(line, "    "):
			lines = append(lines, strings.TrimSpace(line))
		default:
			block = strings.TrimSpace(line) == ""
			prose.WriteString(line + "\n")
		}
	}
	for _, paragraph := range strings.Split(prose.String(), "\n\n") {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(paragraph, -1) {
			spans = append(spans, strings.Join(strings.Fields(m[1]), " "))
		}
	}
	return lines, spans
}

// simple returns the simple commands in a line of shell, each as its words: without comments, redirections, and the brackets around what may
// be left out.
func simple(line string) [][]string {
	var (
		all   [][]string
		words []string
		word  strings.Builder
		open  bool // a word has begun
		quote rune
		drop  bool // the next word is the file of a redirection
	)
	end := func() {
		if open && !drop {
			words = append(words, word.String())
		}
		drop = drop && !open
		word.Reset()
		open = false
	}
	next := func() {
		end()
		if len(words) > 0 {
			all = append(all, words)
		}
		words, drop = nil, false
	}
	runes := []rune(strings.TrimPrefix(line, "$ "))
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case unicode.IsSpace(r):
			end()
		case r == '#' && !open:
			next()
			return all
		case strings.ContainsRune("|&;", r):
			next()
		case (r == '<' || r == '$') && i+1 < len(runes) && runes[i+1] == '(':
			next()
			i++
		case r == ')':
			next()
		case r == '<' || r == '>':
			if _, err := fmt.Sscanf(word.String(), "%d", new(int)); err == nil {
				word.Reset()
				open = false
			}
			end()
			drop = true
		case r == '[' && !open, r == ']':
		default:
			word.WriteRune(r)
			open = true
		}
	}
	next()
	return all
}

// standsFor are words in capitals that stand for a value which the parser checks.
var standsFor = map[string]string{"N": "1", "TYPE": "F16", "MODEL": "model.gguf"}

var assignment = regexp.MustCompile(`^([A-Z_]+)=(.*)$`)

// called is a call of lathe in a page.
type called struct {
	args  []string
	env   map[string]string
	ssh   bool // by a client of a server
	elide bool // words were left out
}

// callOf returns the call of lathe that a simple command is. ok is false if it is another program's.
func callOf(words []string) (c called, ok bool) {
	c.env = map[string]string{}
	for len(words) > 0 {
		m := assignment.FindStringSubmatch(words[0])
		if m == nil {
			break
		}
		c.env[m[1]], words = m[2], words[1:]
	}
	if len(words) > 1 && words[0] == "/usr/bin/time" && words[1] == "-v" {
		words = words[2:]
	}
	switch {
	case len(words) == 0:
		return c, false
	case words[0] == "ssh":
		words = words[1:]
		for len(words) > 1 && strings.HasPrefix(words[0], "-") {
			words = words[2:] // the options in the pages have values
		}
		if len(words) < 2 {
			return c, false // the explorer
		}
		c.ssh = true
	case words[0] != "lathe" && !strings.HasSuffix(words[0], "/lathe"):
		return c, false
	}
	for _, w := range words[1:] {
		switch {
		case w == "…":
			c.elide = true
		case standsFor[w] != "":
			c.args = append(c.args, standsFor[w])
		default:
			c.args = append(c.args, w)
		}
	}
	return c, true
}

// parse parses a call with the flags of its command, which it returns, and checks their values.
func parse(root *cobra.Command, args []string) (*cobra.Command, error) {
	cmd, rest, err := root.Find(args)
	if err == nil {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = root.PersistentPreRunE(cmd, rest)
	}
	return cmd, err
}

// TestCommandLinesInPages runs every command line in the code blocks of all pages, and the examples of the commands' help among them, up to
// the first use of a backend: the program accepts commands, flags, values, and which flags are together.
func TestCommandLinesInPages(t *testing.T) {
	all := pages(t)
	dir := t.TempDir()
	t.Chdir(dir)
	for name, value := range map[string]string{
		"HOME": dir, "XDG_CONFIG_HOME": dir, "LATHE_CACHE": filepath.Join(dir, "cache"), "LATHE_WORKSPACES": filepath.Join(dir, "workspaces"), "HF_HOME": filepath.Join(dir, "hub"),
		"HF_HUB_OFFLINE": "1",
	} {
		t.Setenv(name, value)
	}
	if err := os.MkdirAll("cache/models", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"cache/models/" + defaultModel, "model.gguf"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing waits for a network
	ran := 0
	for path, page := range all {
		lines, _ := code(page)
		exported := map[string]string{}
		for _, line := range lines {
			if strings.Contains(line, "[FLAGS]") || strings.Contains(line, "[MODEL]") {
				continue // how a command is called, from its own text
			}
			for _, words := range simple(line) {
				if words[0] == "export" {
					for _, w := range words[1:] {
						if m := assignment.FindStringSubmatch(w); m != nil {
							exported[m[1]] = m[2]
						}
					}
				}
				c, ok := callOf(words)
				if !ok {
					continue
				}
				for name, value := range exported {
					if _, ok := c.env[name]; !ok {
						c.env[name] = value
					}
				}
				ran++
				if err := accepts(ctx, c); err != nil {
					t.Errorf("%s: %s: %v", path, line, err)
				}
			}
		}
	}
	if t.Logf("%d calls", ran); ran < 180 {
		t.Errorf("%d calls in the pages", ran)
	}
}

// quantised matches names of quantised types.
var quantised = regexp.MustCompile(`^Q\d_\w+(,Q\d_\w+)*$`)

// accepts returns an error if the program refuses a call as invalid usage.
func accepts(ctx context.Context, c called) error {
	var out, words bytes.Buffer
	unused := errors.New("the backend is not used")
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &words}
	a.getenv = func(name string) string {
		if v, ok := c.env[name]; ok {
			return v
		}
		return os.Getenv(name)
	}
	a.backend = func(string) (explorer.Backend, error) { return nil, unused }
	a.diagnose = func(context.Context, string, engine.Places) ([]engine.Check, error) { return nil, unused }
	a.work = func(context.Context, string, engine.WorkRequest) (remote.Done, error) { return remote.Done{}, unused }
	a.evaluateElsewhere = func(context.Context, string, engine.ZeroShotRequest) error { return unused }
	a.verify = func(context.Context, string, string, string, explorer.Monitor) (gguf.Verification, error) {
		return gguf.Verification{}, unused
	}
	if c.ssh {
		a.shared = &explorer.Exploration{}
	}
	if !slices.Contains(gguf.WritableNames(), "Q4_0") { // without cgo
		for i, w := range c.args {
			if quantised.MatchString(w) {
				c.args[i] = "Q8_0"
			}
		}
	}
	root := newRoot(a)
	cmd, err := parse(root, c.args)
	if err == nil && !c.elide {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil || c.elide || c.ssh || !cmd.HasParent() { // a server's commands need its exploration, the explorer a terminal
		return err
	}
	if run(ctx, a, c.args) == exitUsage {
		return errors.New(strings.TrimSpace(words.String()))
	}
	return nil
}

// foreign are flags of other programs that the pages name.
var foreign = []string{"--merge", "--read-only", "--cap-drop", "--prune-layers", "--chat-template-file"}

// TestCommandsInProse checks the commands and flags that the prose of all pages names: `lathe cut --ratio 0.8`, `search --resume`, `--tune`.
func TestCommandsInProse(t *testing.T) {
	root := newRoot(&app{})
	known := map[string]bool{"--help": true, "--version": true}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	checked := 0
	for path, page := range pages(t) {
		if strings.Contains(path, "/adr/") || path == "tui/docs/keys.md" {
			continue // a record keeps the words of its day, and the commands of keys have flags without values
		}
		if path == "CHANGELOG.md" {
			page, _, _ = strings.Cut(page, "\n## v") // and so does a release
		}
		_, spans := code(page)
		for _, span := range spans {
			commands := simple(span)
			if len(commands) == 0 {
				continue
			}
			words := commands[0]
			if flag, _, _ := strings.Cut(words[0], "="); strings.HasPrefix(flag, "--") {
				if checked++; !known[flag] && !slices.Contains(foreign, flag) {
					t.Errorf("%s: no command has the flag %s", path, flag)
				}
				continue
			}
			if words[0] != "lathe" && len(words) > 1 && slices.Contains(subcommands(root), words[0]) {
				words = append([]string{"lathe"}, words...)
			}
			c, ok := callOf(words)
			if !ok || c.ssh || len(c.args) == 0 {
				continue
			}
			checked++
			fresh := newRoot(&app{getenv: func(string) string { return "" }})
			if _, err := parse(fresh, c.args); err != nil && !errors.As(err, new(*pflag.ValueRequiredError)) {
				t.Errorf("%s: `%s`: %v", path, span, err)
			}
		}
	}
	if t.Logf("%d commands and flags", checked); checked < 150 {
		t.Errorf("%d commands and flags in the pages", checked)
	}
}

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
