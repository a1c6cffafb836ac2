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
