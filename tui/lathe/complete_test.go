//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestEverythingCompletes checks that every argument and every flag has candidates, or is known to have none.
func TestEverythingCompletes(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "man" {
			return
		}
		for _, name := range placeholders(c) {
			if name != "flags" && a.wordCandidates(c, name) == nil {
				t.Errorf("%s: the argument %s has no candidates", c.CommandPath(), name)
			}
		}
		flag := func(f *pflag.Flag) {
			if a.flagCandidates(c, f) == nil {
				t.Errorf("%s: the flag --%s has no candidates: name them in flagCandidates, or `none`", c.CommandPath(), f.Name)
			}
		}
		c.LocalNonPersistentFlags().VisitAll(flag)
		c.PersistentFlags().VisitAll(flag)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(a))
}

// library makes a folder with a tiny model as the default model, a subnet named thin in its workspace, and files. It returns the
// environment of a process there and the subnet's id.
func library(t *testing.T) (dir string, env []string, id string) {
	t.Helper()
	dir = t.TempDir()
	models := filepath.Join(dir, "cache", "models")
	for _, d := range []string{models, filepath.Join(dir, "folder"), filepath.Join(dir, "hf", "hub", "models--owner--name", "snapshots", "0123")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(models, defaultModel), filepath.Join(dir, "tiny.gguf")} {
		if err := gguftest.Tiny("llama").Write(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"tinynotes.txt", "made.recipe.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env = append(os.Environ(), "HOME="+dir, "LATHE_CACHE="+filepath.Join(dir, "cache"), "LATHE_WORKSPACES="+filepath.Join(dir, "workspaces"),
		"HF_HOME="+filepath.Join(dir, "hf"), "HF_HUB_OFFLINE=1", "TERM=xterm", "LATHE_BACKEND=go")
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "lathe", args...)
		cmd.Dir, cmd.Env, cmd.Stderr = dir, env, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	run("masks", "set", "--layers", "0", "--drop", "mlp", "--save", "thin")
	run("chats", "new", "--name", "talk")
	var r struct{ Subnets []subnetResult }
	if err := json.Unmarshal(run("subnets", "list", "--json"), &r); err != nil || len(r.Subnets) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	return dir, env, r.Subnets[0].ID
}

// TestCandidates asks the program for the candidates of words, as shells do.
func TestCandidates(t *testing.T) {
	dir, env, id := library(t)
	for line, want := range map[string]string{
		"cut --method fl":                     "flap flap-global :4",
		"cut --type Q8":                       "Q8_0 :4",
		"cut --ratio 0.8":                     "0.8 :4",
		"cut --text we":                       "web :4",
		"cut --text notes=tiny":               "notes=tiny.gguf notes=tinynotes.txt :4",
		"cut --text notes=fol":                "notes=folder/ :6",
		"cut -o ":                             "gguf :8",
		"compare --methods flap,ob":           "flap,obs :6",
		"compare --methods obs,ob":            ":6",
		"search --strategy p":                 "paper paper+ paper-laptop :4",
		"search --strategy random --set to":   "tokens= :6",
		"search --set population=9,alp":       "population=9,alpha= :6",
		"search --target mem":                 "memory= :6",
		"search --engine llama":               "llama.cpp llama-server llama-server= :6",
		"chat --subnet ":                      "dense draft " + id + " :4",
		"chat tiny.gguf --subnet ":            "dense draft " + id + " :4",
		"chats new --subnets dense," + id[:1]: "dense," + id + " :6",
		"chats show ":                         "c1 :4",
		"subnets export th":                   "thin :4",
		"subnets delete d":                    ":4",
		"subnets restore ":                    ":4",
		"masks set --layers ":                 "all none 0 1 2 :4",
		"masks set --layers 0-":               "0-0 0-1 0-2 :4",
		"masks set --drop m":                  "mlp :4",
		"recipe build ":                       "json :8",
		"search adopt ":                       "best :4",
		"stop ":                               ":4",
		"zeroshot --task arc_":                "arc_easy arc_challenge :4",
		"info ow":                             "owner/name :4",
		"info ti":                             "gguf :8",
		"convert ow":                          "owner/name :4",
		"help subnets ex":                     "export :4",
		"completion z":                        "zsh :4",
		"--screen ma":                         "masks :4",
		"sub":                                 "subnets :4",
		"ti":                                  "tiny.gguf :4",
		"chat --workspace ":                   ":16",
		"chat --prompt ":                      ":4",
		"info a b":                            ":4",
	} {
		cmd := exec.CommandContext(t.Context(), "lathe", append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(line, " ")...)...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		got := strings.Fields(string(out))
		slices.Sort(got)
		expected := strings.Fields(want)
		slices.Sort(expected)
		if !slices.Equal(got, expected) {
			t.Errorf("%q completes to %v, want %v", line, got, expected)
		}
	}
	cmd := exec.CommandContext(t.Context(), "lathe", cobra.ShellCompRequestCmd, "chat", "--subnet", id)
	cmd.Dir, cmd.Env = dir, env
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), id+"\tthin, 0.") {
		t.Errorf("%v: the subnet is not described: %s", err, out)
	}
}

// TestCandidatesOfJobs completes a job that another process runs.
func TestCandidatesOfJobs(t *testing.T) {
	m := newTeam(t)
	model, err := os.ReadFile(m.model)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.path("cache", "models"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.write(string(model), 0o600, "cache", "models", defaultModel)
	s := m.serve("w")
	if _, words, status := s.ssh("olga", "search", "start", "--budget", "30m", "--windows", "1", "--seq", "64"); status != exitOK {
		t.Fatalf("status %d: %s", status, words)
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	late := time.After(patience)
	for {
		out, _, status := m.lathe(cobra.ShellCompRequestCmd, "stop", "--workspace", "w", "")
		if status == exitOK && strings.HasPrefix(out, "j") && strings.Contains(out, "\tsearch") {
			break
		}
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("the search is no candidate: %q", out)
		}
	}
	if out, _, _ := m.lathe(cobra.ShellCompRequestCmd, "stop", "--workspace", "other", ""); !strings.HasPrefix(out, ":4") {
		t.Errorf("jobs of another workspace: %q", out)
	}
}

// typed is a shell on a terminal.
type typed struct {
	t      *testing.T
	keys   io.Writer
	mu     sync.Mutex
	screen *vt.Emulator
	news   chan struct{} // closed and replaced when something is shown
}

func startShell(t *testing.T, dir string, env []string, args ...string) *typed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	s := &typed{t: t, keys: tty, screen: vt.NewEmulator(120, 50), news: make(chan struct{})}
	go func() { _, _ = io.Copy(tty, s.screen) }() // answers to the shell's questions
	go func() {
		b := make([]byte, 1<<14)
		for {
			n, err := tty.Read(b)
			s.mu.Lock()
			_, _ = s.screen.Write(b[:n])
			close(s.news)
			s.news = make(chan struct{})
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = tty.Close()
	})
	return s
}

func (s *typed) write(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

// until waits until the screen shows every text.
func (s *typed) until(texts ...string) {
	s.t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		shown, news := ansi.Strip(s.screen.Render()), s.news
		s.mu.Unlock()
		missing := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return strings.Contains(shown, text) })
		if len(missing) == 0 {
			return
		}
		select {
		case <-news:
		case <-late:
			s.t.Fatalf("the screen does not show %q:\n%s", missing, strings.TrimSpace(shown))
		}
	}
}

// TestCompletionInShells types words and Tab into bash and zsh, and asks fish.
func TestCompletionInShells(t *testing.T) {
	dir, env, id := library(t)
	cases := []struct {
		line string
		adds string   // to the line, at once
		list []string // shown after another Tab
	}{
		{"lathe cut --method ta", "ylor", nil},
		{"lathe cut --method=ta", "ylor", nil},
		{"lathe search --strategy l", "adder", nil},
		{"lathe chat --subnet ", "", []string{"dense", "draft", id, "thin, 0."}},
		{"lathe subnets export th", "in", nil},
		{"lathe compare --methods flap,ob", "s", nil},
		{"lathe cut --text wi", "ki", nil},
		{"lathe cut --text notes=fol", "der/", nil},
		{"lathe info ti", "ny.gguf", nil},
		{"lathe info fol", "der/", nil},
		{"lathe recipe build ma", "de.recipe.json", nil},
		{"lathe info ow", "ner/name", nil},
		{"lathe masks set --drop ml", "p", nil},
	}
	for shell, start := range map[string]struct {
		args  []string
		setup string
	}{
		"bash": {[]string{"bash", "--norc", "--noprofile", "-i"}, "source <(lathe completion bash)"},
		"zsh":  {[]string{"zsh", "-f", "-i"}, "autoload -Uz compinit && compinit -D -u && source <(lathe completion zsh)"},
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(shell + " is not installed")
			}
			s := startShell(t, dir, append(env, "PS1=$ "), start.args...)
			s.write(start.setup + "\necho ready-$((20+3))\n")
			s.until("ready-23")
			for i, c := range cases {
				s.write("\x15\x0c" + c.line + "\t")
				if len(c.list) > 0 {
					s.write("\t")
				}
				line := c.line + c.adds
				if shell == "bash" { // which quotes commas, for its braces
					line = strings.ReplaceAll(line, ",", `\,`)
				}
				s.until(append([]string{line}, c.list...)...)
				s.write("\x15\x0cecho next-$((" + fmt.Sprint(i) + "+100))\n")
				s.until(fmt.Sprintf("next-%d", i+100))
			}
		})
	}
	t.Run("fish", func(t *testing.T) {
		if _, err := exec.LookPath("fish"); err != nil {
			t.Skip("fish is not installed")
		}
		for _, c := range cases {
			cmd := exec.CommandContext(t.Context(), "fish", "--no-config", "-c", "lathe completion fish | source; complete -C \""+c.line+"\"")
			cmd.Dir, cmd.Env = dir, env
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", c.line, err, out)
			}
			wants := c.list
			if c.adds != "" {
				word := c.line[strings.LastIndexAny(c.line, " =")+1:] + c.adds
				if strings.Contains(c.line, "notes=") {
					word = "notes=" + word
				}
				wants = []string{word}
			}
			for _, want := range wants {
				if !strings.Contains(string(out), want) {
					t.Errorf("fish: %s completes to\n%s\nwant %s", c.line, out, want)
				}
			}
		}
	})
}
