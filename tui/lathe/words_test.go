package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"github.com/lathe-llm/lathe/tui"
)

// TestUnknownWords checks that a word which is near a known one is an error that names it.
func TestUnknownWords(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("LATHE_WORKSPACES", filepath.Join(dir, "workspaces"))
	if err := os.WriteFile("model.gguf", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, near := range map[string]string{
		"foo":                                                   "fit",
		"evla":                                                  "eval",
		"vesrion":                                               "version",
		"infos model.gguf":                                      "info",
		"chta -p hello":                                         "chat",
		"subnets lsit":                                          "list",
		"masks sett":                                            "set",
		"recipe exprot":                                         "export",
		"help serach":                                           "search",
		"help subnets lits":                                     "list",
		"completion bsh":                                        "bash",
		"--screen libary":                                       "library", //nolint:misspell // on purpose
		"--color ture":                                          "true",
		"--scren masks":                                         "--screen",
		"info model.gguf -json":                                 "--json",
		"cut model.gguf --ration":                               "--ratio",
		"cut model.gguf --ratoi 0.8 -o x.gguf":                  "--ratio",
		"cut model.gguf --method flpa -o x.gguf":                "flap",
		"cut model.gguf --reform exat -o x.gguf":                "exact",
		"cut model.gguf --type Q4_KM -o x.gguf":                 "Q4_K",
		"cut model.gguf --as fh -o x.gguf":                      "hf",
		"convert folder --type BF6 -o x.gguf":                   "BF16",
		"compare model.gguf --methods flap,obz":                 "obs",
		"compare model.gguf --format cvs":                       "csv",
		"compare model.gguf --engine lama.cpp":                  "llama.cpp",
		"search model.gguf --strategy ladr":                     "ladder",
		"search model.gguf --fitness perplexty":                 "perplexity",
		"eval model.gguf --text x --subnet dens":                "dense",
		"eval model.gguf --engine decodr":                       "decoder",
		"eval model.gguf --type Q8":                             "Q8_0",
		"chat model.gguf --subnet drat -p x":                    "draft",
		"bench model.gguf --format jsn":                         "json",
		"bench model.gguf --type F61":                           "F16",
		"masks set model.gguf --layers 0 --drop mpl":            "mlp",
		"zeroshot model.gguf --task arc_easi=x.jsonl":           "arc_easy",
		"serve-api model.gguf --kv-type q8":                     "q8_0",
		"status model.gguf --compute cdua":                      "cuda",
		"subnets export dence model.gguf -o x.gguf":             "dense",
		"subnets export dense model.gguf -o x.gguf --type Q4-1": "Q4_1",
	} {
		var out, words bytes.Buffer
		status := run(context.Background(), fakeApp(strings.NewReader(""), &out, &words), strings.Fields(line))
		text := words.String()
		if status != exitUsage || !strings.Contains(text, "nearest") || !strings.Contains(text, near) || strings.Count(text, "\n") != 1 || out.Len() > 0 {
			t.Errorf("%s: status %d, want the nearest, %s, in one line: %q %q", line, status, near, text, out.String())
		}
	}
	for line, want := range map[string]string{
		"export s1":              "there is `lathe benches export`, `lathe chats export`, `lathe recipe export`, `lathe subnets export`",
		"frobnicate":             "`lathe --help` lists the commands",
		"subnets xyzzy":          "`lathe subnets --help` lists the commands",
		"eval text.txt":          "--text is missing: text file to measure on (text.txt is taken as the model)",
		"cut --method something": "not one of allocated, obs",
	} {
		var out, words bytes.Buffer
		status := run(context.Background(), fakeApp(strings.NewReader(""), &out, &words), strings.Fields(line))
		if text := words.String(); status != exitUsage || strings.Contains(text, "nearest") || !strings.Contains(text, want) {
			t.Errorf("%s: status %d, want %q and no nearest: %q", line, status, want, text)
		}
	}
	if left, _ := filepath.Glob("x.gguf"); len(left) > 0 {
		t.Error("a refused command has written a file")
	}
}

func TestNearest(t *testing.T) {
	names := []string{"info", "fit", "chat", "cut", "convert", "search", "serve"}
	for word, want := range map[string]string{"chta": "chat", "INFO": "info", "serach": "search", "converted": "convert", "": "fit", "x": "fit"} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest to %q is %s, want %s", word, got, want)
		}
	}
}

// TestChoicesOfFlags checks that every flag whose help lists its values has them checked, and that their defaults are among
// them.
func TestChoicesOfFlags(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, name := range []string{"type", "as", "method", "methods", "strategy", "fitness", "reform", "bos", "format", "engine", "kv-type", "screen", "color", "drop", "restore", "invert", "equalise"} {
			f := c.Flags().Lookup(name)
			if f == nil {
				continue
			}
			values := f.Annotations[choicesAnnotation]
			if len(values) == 0 {
				t.Errorf("%s --%s takes any word", c.CommandPath(), name)
			}
			for _, v := range strings.Split(f.DefValue, ",") {
				if v != "" && nearest(v, values) != v {
					t.Errorf("%s --%s: the default %q is not one of %v", c.CommandPath(), name, v, values)
				}
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&app{}))
	for _, name := range tui.ScreenNames() {
		if !strings.Contains(newRoot(&app{}).Flags().Lookup("screen").Usage, name) {
			t.Errorf("the help of --screen lacks %s", name)
		}
	}
}

// TestFirstWordsOfHelp checks that the first words of help texts survive being capitalised: the library that writes help turns
// GGUF into Gguf and Re-fit into Re-Fit.
func TestFirstWordsOfHelp(t *testing.T) {
	check := func(where, text string) {
		word, _, _ := strings.Cut(text, " ")
		capital := strings.ToUpper(word[:min(1, len(word))]) + word[min(1, len(word)):]
		if shown := cases.Title(language.AmericanEnglish).String(word); shown != capital {
			t.Errorf("%s: the help of it begins with %q, shown as %q", where, word, shown)
		}
	}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		check(c.CommandPath(), c.Short)
		c.Flags().VisitAll(func(f *pflag.Flag) { check(c.CommandPath()+" --"+f.Name, f.Usage) })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&app{}))
}
