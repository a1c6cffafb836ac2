//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// raw matches what the texts of Go's own errors have in them.
var raw = regexp.MustCompile(`strconv\.|(^|[^.a-z])json: |cannot unmarshal|invalid character|unexpected end of JSON|\bEOF\b|exit status|signal: |` +
	`\b(open|stat|lstat|read|mkdir|readdirent|createtemp|unlinkat|fdopendir) [^ ]*: |invalid syntax|value out of range|%!|panic|goroutine |0x[0-9a-f]{6,}|` +
	`<nil>|runtime error|interface conversion|invalid argument|toml: |gob: |hex: |base64|time: |executable file not found|unsupported protocol scheme|` +
	`required flag\(s\)|arg\(s\)|dial tcp|lookup |\bsyscall\b|\*[a-z]+\.[A-Z]|multipart: |http: `)

// refused runs a command line that must fail, and returns its one line of text.
func refused(t *testing.T, a *app, args ...string) string {
	t.Helper()
	var out, words bytes.Buffer
	a.stdin, a.stdout, a.stderr = strings.NewReader(""), &out, &words
	ctx, cancel := context.WithTimeout(t.Context(), patience) // a server that is started after all must not hang the test
	defer cancel()
	status := run(ctx, a, args)
	text := words.String()
	line := fmt.Sprintf("%q", args)
	switch {
	case status == exitOK:
		t.Errorf("%s: accepted: %.200s", line, out.String())
	case raw.MatchString(text):
		t.Errorf("%s: status %d: the text has %q of a Go error: %s", line, status, raw.FindString(text), text)
	case !strings.Contains("\n"+text, "\nlathe: ") || strings.HasSuffix(strings.TrimSpace(text), "lathe:"):
		t.Errorf("%s: status %d: %q", line, status, text)
	}
	return text
}

// leaves calls do with every command that runs something, and arguments for it that are valid but for MODEL.
func leaves(c *cobra.Command, valid map[string]string, do func(c *cobra.Command, path, args, flags []string)) {
	for _, sub := range c.Commands() {
		leaves(sub, valid, do)
	}
	if c.HasSubCommands() && c.Name() != "search" || c.Name() == "help" {
		return
	}
	var args, flags []string
	for _, name := range placeholders(c) {
		if strings.Contains(c.Use, name+"]") && name != "MODEL" { // may be left out
			continue
		}
		args = append(args, valid[name])
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		_, required := f.Annotations[cobra.BashCompOneRequiredFlag]
		if value := valid["--"+f.Name]; required || f.Name == "output" && c.Name() != "man" && f.DefValue == "" {
			flags = append(flags, "--"+f.Name+"="+value)
		}
	})
	do(c, strings.Fields(c.CommandPath())[1:], args, flags)
}

// TestMessages walks the error paths of every command: files of the wrong kind in place of each file, values of the wrong kind for
// each flag. No text may be that of an error of Go's packages.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	t.Setenv("LATHE_CACHE", filepath.Join(dir, "cache"))
	t.Setenv("LATHE_WORKSPACES", filepath.Join(dir, "workspaces"))
	t.Setenv("HF_HUB_OFFLINE", "1")
	t.Setenv("HF_HOME", filepath.Join(dir, "hf"))
	t.Setenv("LATHE_BACKEND", "go")
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := gguftest.Tiny("llama").Write("tiny.gguf"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile("tiny.gguf")
	if err != nil {
		t.Fatal(err)
	}
	write("truncated.gguf", whole[:len(whole)/2])
	write("header.gguf", whole[:50])
	write("empty.gguf", nil)
	write("text.txt", []byte("Only words.\n"))
	write("broken.json", []byte(`{"model": {"name": 5`))
	write("wrong.json", []byte(`{"format": "x", "version": "one", "model": [], "masks": 7, "lathe_recipe": "y"}`))
	for _, d := range []string{"folder", "config", "broken"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("config/config.json", []byte(`{"model_type": 7, "hidden_size": "wide"}`))
	write("broken/config.json", []byte(`{"model_type": "llama", `))
	bad := []string{"none.gguf", "folder", "text.txt/x.gguf", "empty.gguf", "truncated.gguf", "header.gguf", "text.txt", "broken.json", "config", "broken", "", strings.Repeat("n", 300) + ".gguf"}
	if os.Geteuid() != 0 { // root reads all files
		write("secret.gguf", whole)
		if err := os.Chmod("secret.gguf", 0); err != nil {
			t.Fatal(err)
		}
		bad = append(bad, "secret.gguf")
	}
	a, end := newApp(nil, nil, nil)
	defer func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}()
	valid := map[string]string{
		"MODEL": "none.gguf", "SUBNET": "dense", "SUBNETS": "dense", "CHAT": "c1", "BENCH": "b1", "JOB": "j1", "TARGET": "0.8", "COLUMN": "left",
		"RECIPE": "none.json", "FILE": "none.gguf", "SOURCE": "none", "SHELL": "bsh", "NAME": "n", "NOTE": "n", "PROMPT": "p",
		"--text": "text.txt", "--memory": "1GB", "--task": "piqa=text.txt", "--output": "out.gguf", "--file": "text.txt",
	}
	t.Run("flags", func(t *testing.T) {
		leaves(newRoot(a), valid, func(c *cobra.Command, path, args, flags []string) {
			if slices.Contains([]string{"doctor", "keys", "themes", "version", "man", "completion"}, c.Name()) {
				return // they succeed without MODEL
			}
			line := func(more ...string) []string {
				return append(append(append(slices.Clone(path), args...), flags...), more...)
			}
			refused(t, a, line()...)
			refused(t, a, line("--bogus")...)
			refused(t, a, line("-Z")...)
			refused(t, a, line("one", "two", "three")...)
			refused(t, a, path...)
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Name == "help" || f.Name == "version" && !c.HasParent() {
					return
				}
				for _, value := range []string{"x", "", "-1", "1e999", "99999999999999999999999", "0x", "\x00", "a=b,c=", "none/x"} {
					refused(t, a, line("--"+f.Name+"="+value)...)
				}
				if f.NoOptDefVal == "" {
					refused(t, a, line("--"+f.Name)...)
				}
			})
		})
	})
	t.Run("models", func(t *testing.T) {
		for _, file := range bad {
			valid["MODEL"], valid["FILE"], valid["SOURCE"], valid["RECIPE"] = file, file, file, file
			leaves(newRoot(a), valid, func(c *cobra.Command, path, args, flags []string) {
				if len(args) == 0 || c.Name() == "man" || c.Name() == "completion" {
					return
				}
				refused(t, a, append(append(path, args...), flags...)...)
			})
		}
	})
	for _, line := range []string{
		"recipe build broken.json tiny.gguf", "recipe build wrong.json tiny.gguf", "recipe build text.txt tiny.gguf", "recipe build folder tiny.gguf",
		"recipe build none.json tiny.gguf", "recipe build text.txt/x tiny.gguf", "recipe export nosuch tiny.gguf -o x.json", "recipe export dense tiny.gguf -o none/x.json",
		"subnets import text.txt tiny.gguf", "subnets import folder tiny.gguf", "subnets import none tiny.gguf", "subnets import truncated.gguf tiny.gguf",
		"subnets import broken.json tiny.gguf", "subnets export nosuch tiny.gguf -o x.gguf", "subnets export dense tiny.gguf -o folder", "subnets export dense tiny.gguf -o none/x.gguf",
		"subnets export dense tiny.gguf -o text.txt/x.gguf", "subnets export dense tiny.gguf -o tiny.gguf", "subnets export dense tiny.gguf --as hf -o text.txt",
		"subnets rename nosuch n tiny.gguf", "subnets delete nosuch tiny.gguf", "subnets restore nosuch tiny.gguf", "subnets measure nosuch tiny.gguf",
		"subnets measure dense tiny.gguf --text none", "subnets measure dense tiny.gguf --text folder", "subnets measure dense tiny.gguf --text empty.gguf",
		"subnets measure dense tiny.gguf --against text.txt --text text.txt", "cut tiny.gguf --text none", "cut tiny.gguf --text folder", "cut tiny.gguf --text empty.gguf",
		"cut tiny.gguf --text text.txt/x", "cut tiny.gguf --text a=none:0.5 --text wiki:0.5", "cut tiny.gguf --text a=text.txt:x", "cut tiny.gguf -o text.txt/x.gguf",
		"cut tiny.gguf --ratio 2", "cut tiny.gguf --method nosuch", "reform tiny.gguf --subnet nosuch", "tune tiny.gguf --subnet nosuch", "tune tiny.gguf --budget soon",
		"search tiny.gguf --set population=x --strategy paper", "search tiny.gguf --set nosuch=1", "search tiny.gguf --target 5", "search tiny.gguf --target memory=x@y", "search tiny.gguf --budget soon",
		"search tiny.gguf --budget evals=x", "search adopt 7 tiny.gguf", "search adopt x tiny.gguf", "search retarget x tiny.gguf", "search inject nosuch tiny.gguf", "search status tiny.gguf",
		"masks set tiny.gguf --layers x --drop mlp", "masks set tiny.gguf --layers 0-99 --drop mlp", "masks set tiny.gguf --layers 0 --heads 9-1", "masks set tiny.gguf --file broken.json",
		"masks set tiny.gguf --file none", "masks set tiny.gguf --file folder", "masks diff tiny.gguf --with nosuch", "masks checkout tiny.gguf --subnet nosuch", "masks undo tiny.gguf",
		"eval tiny.gguf --text none", "eval tiny.gguf --text folder", "eval tiny.gguf --text empty.gguf", "eval tiny.gguf --text text.txt --against none.gguf", "eval tiny.gguf --text text.txt --against truncated.gguf",
		"zeroshot tiny.gguf --task piqa=none", "zeroshot tiny.gguf --task piqa=broken.json", "zeroshot tiny.gguf --task piqa=folder", "zeroshot tiny.gguf --task piqa=empty.gguf", "zeroshot tiny.gguf --task piqa=wrong.json", "zeroshot tiny.gguf --task piqa",
		"chat tiny.gguf --subnet nosuch -p x", "chats say nosuch hello tiny.gguf", "chats vote nosuch left tiny.gguf", "chats export nosuch tiny.gguf", "chats new tiny.gguf --subnets nosuch",
		"benches export nosuch tiny.gguf", "bench tiny.gguf --subnets nosuch", "bench tiny.gguf --prompt x", "probe tiny.gguf --subnets nosuch", "stop nosuch tiny.gguf", "fit tiny.gguf --memory x",
		"compare tiny.gguf --test none", "compare tiny.gguf --methods nosuch", "compare tiny.gguf --ratios x", "verify text.txt tiny.gguf", "verify truncated.gguf tiny.gguf", "verify tiny.gguf truncated.gguf",
		"verify tiny.gguf tiny.gguf", "convert text.txt -o x.gguf", "convert folder -o x.gguf", "convert config -o x.gguf", "convert broken -o x.gguf", "convert tiny.gguf -o x.gguf", "convert none -o x.gguf",
		"serve tiny.gguf --authorized-keys none", "serve tiny.gguf --authorized-keys folder", "serve tiny.gguf --authorized-keys text.txt --host-key folder",
		"serve tiny.gguf --authorized-keys empty.gguf --host-key text.txt", "serve tiny.gguf --authorized-keys empty.gguf --audit folder", "serve tiny.gguf --authorized-keys empty.gguf --listen 192.0.2.1:9", "serve tiny.gguf --listen nowhere:99999999",
		"serve-api tiny.gguf --key-file none", "serve-api tiny.gguf --key-file folder", "serve-api tiny.gguf --listen 192.0.2.1:9", "serve-api tiny.gguf --listen 127.0.0.1:http9", "serve-api tiny.gguf --subnet nosuch",
		"status tiny.gguf --workspace text.txt", "status tiny.gguf --workspace text.txt/w", "masks set tiny.gguf --layers 0 --drop mlp --workspace text.txt/w", "cut tiny.gguf --ratio 0.9 --compute xla:/none.so",
		"chat tiny.gguf -p x --engine llama-server=/none", "chat tiny.gguf -p x --engine llama-server=http://127.0.0.1:9", "chat tiny.gguf -p x --engine nosuch", "info owner/name", "info owner/name@v1/x.gguf",
		"man nosuch", "help nosuch", "man -o text.txt", "man -o text.txt/x", "completion", "completion bash zsh", "cut tiny.gguf --text folder:2", "tiny.gguf --keys none", "tiny.gguf", "a b c",
	} {
		if !strings.Contains(line, "--engine") && !strings.Contains(line, "--compute") {
			refused(t, a, strings.Fields(line)...)
			continue
		}
		other, end := newApp(nil, nil, nil) // which opens the engine anew
		refused(t, other, strings.Fields(line)...)
		if err := end(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for line, near := range map[string]string{
		"subnets export dens tiny.gguf -o x.gguf": "dense", "cut tiny.gguf --method alocated": "allocated", "cut tiny.gguf --type Q4K": "Q4_K", "search tiny.gguf --strategy papr": "paper",
		"cut tiny.gguf --rato 0.8": "--ratio", "zeroshot tiny.gguf --task pika=text.txt": "piqa", "search tiny.gguf --strategy paper --set populaton=3": "population",
	} {
		if text := refused(t, a, strings.Fields(line)...); !strings.Contains(text, near) {
			t.Errorf("%s: %s is not named: %s", line, near, text)
		}
	}
}

// TestMessagesOfProcesses checks the texts of a workspace that another process holds and of standard output that cannot be written.
func TestMessagesOfProcesses(t *testing.T) {
	m := newTeam(t)
	m.serve("w")
	m.write("{}", 0o600, "made.recipe.json")
	for _, line := range []string{"lathe recipe build made.recipe.json tiny.gguf --workspace w", "lathe subnets import tiny.gguf tiny.gguf --workspace w", "lathe serve tiny.gguf --listen 127.0.0.1:0 --workspace w --authorized-keys authorized_keys", "lathe status tiny.gguf --workspace w >/dev/full", "lathe info tiny.gguf >/dev/full", "lathe keys --json >/dev/full"} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir, cmd.Env = m.dir, m.env
		var words bytes.Buffer
		cmd.Stderr = &words
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: accepted", line)
		}
		if raw.MatchString(words.String()) || words.Len() == 0 {
			t.Errorf("%s: %q", line, words.String())
		}
	}
}
