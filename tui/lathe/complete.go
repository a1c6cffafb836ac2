package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer/hub"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui"
)

// candidates returns what the word that is being typed can become, given the arguments before it: values, each followed by a tab
// and a description where it has one, or endings of files that the shell lists itself.
type candidates func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// What a shell does with candidates.
const (
	ended     = cobra.ShellCompDirectiveNoFileComp                                   // a word that ends
	continued = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace // a word that continues
)

// complete gives a command and its subcommands the candidates of their arguments and flags.
func (a *app) complete(c *cobra.Command) error {
	c.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if of := a.argumentCandidates(cmd, args); of != nil {
			return of(cmd, args, word)
		}
		return nil, ended
	}
	var err error
	add := func(f *pflag.Flag) {
		of := a.flagCandidates(c, f)
		if of == nil || err != nil {
			of = none
		}
		if _, given := c.GetFlagCompletionFunc(f.Name); !given {
			err = c.RegisterFlagCompletionFunc(f.Name, cobra.CompletionFunc(of))
		}
	}
	c.LocalNonPersistentFlags().VisitAll(add)
	c.PersistentFlags().VisitAll(add)
	for _, sub := range c.Commands() {
		if err == nil {
			err = a.complete(sub)
		}
	}
	return err
}

// placeholders returns the names of a command's arguments: SUBNET and MODEL of `export SUBNET [MODEL]`.
func placeholders(cmd *cobra.Command) []string {
	var names []string
	for _, word := range strings.Fields(cmd.Use)[1:] {
		names = append(names, strings.TrimSuffix(strings.Trim(word, "[]"), "..."))
	}
	return names
}

// argumentCandidates returns the candidates of the argument after args, nil where there is no further one.
func (a *app) argumentCandidates(cmd *cobra.Command, args []string) candidates {
	if cmd.Name() == "help" || cmd.Name() == "man" {
		return subcommandWords
	}
	names := placeholders(cmd)
	if f := cmd.Flags().Lookup("target"); len(names) > 0 && names[0] == "N" && f != nil && f.Changed {
		names = names[1:] // --target stands for it
	}
	if n := len(names); n > 0 && len(args) >= n && strings.HasSuffix(strings.TrimSuffix(cmd.Use, "]"), "...") {
		return a.wordCandidates(cmd, names[n-1]) // it may be given several times
	}
	if len(args) >= len(names) {
		return nil
	}
	return a.wordCandidates(cmd, names[len(args)])
}

// wordCandidates returns the candidates of an argument by its name, nil for a name that is not known.
func (a *app) wordCandidates(cmd *cobra.Command, name string) candidates {
	switch name {
	case "MODEL":
		return a.models(".gguf")
	case "SOURCE":
		return a.models("")
	case "SUBNET":
		return a.subnetsOf(cmd)
	case "SUBNETS":
		return listOf(a.subnetsOf(cmd))
	case "CHAT":
		return a.stored(chatWords)
	case "BENCH":
		return a.stored(benchWords)
	case "JOB":
		return a.jobs
	case "N":
		return a.stored(frontWords)
	case "TARGET":
		return targets
	case "COLUMN":
		return values("left", "right", "1", "2")
	case "RECIPE":
		return filesOf("json")
	case "FILE":
		if cmd.Name() == "import" {
			return filesOf() // a GGUF file or masks
		}
		return filesOf("gguf")
	case "SHELL":
		return values(shells()...)
	case "NAME", "NOTE", "PROMPT", "WORKER":
		return none
	}
	return nil
}

// flagCandidates returns the candidates of a flag's value, nil for a flag that is not known.
func (a *app) flagCandidates(cmd *cobra.Command, f *pflag.Flag) candidates {
	if of := f.Annotations[choicesAnnotation]; len(of) > 0 {
		if isList(f) {
			return listOf(values(of...))
		}
		return values(of...)
	}
	switch strings.TrimPrefix(cmd.CommandPath(), "lathe ") + " --" + f.Name {
	case "recipe export --output":
		return filesOf("json")
	case "chats export --output":
		return filesOf("md")
	case "benches export --output":
		return filesOf()
	case "man --output":
		return folders
	case "eval --text", "subnets measure --text":
		return filesOf()
	case "fit --memory":
		return values("96MB", "512MB", "1GB", "2GB", "4GB", "8GB")
	case "cut --tune":
		return values("60steps", "10m", "30m", "off")
	case "tune --budget", "search --tune", "reform --tune", "compare --tune":
		return values("60steps", "10m", "30m")
	case "compare --svg":
		return filesOf("svg")
	case "search --budget", "compare --budget":
		return values("10m", "20m", "1h", "evals=\tcandidates", "tokens=\tcalibration tokens")
	}
	switch f.Name {
	case "subnet", "with":
		return a.subnetsOf(cmd)
	case "subnets":
		return listOf(a.subnetsOf(cmd))
	case "layers":
		return a.sets(layersOf)
	case "copy-from":
		return a.units(layersOf)
	case "heads":
		return a.sets(headsOf)
	case "group":
		return a.units(groupsOf)
	case "mlp", "qk", "vo":
		return values("all", "none")
	case "target":
		return targets
	case "set":
		return settings
	case "text":
		return texts
	case "test", "also":
		return named(nil)
	case "task":
		return named(quality.Tasks())
	case "against":
		words := []string{explorer.AgainstDense}
		if f.DefValue == againstAuto {
			words = append(words, againstAuto, againstNone)
		}
		return orFiles(words, ".gguf")
	case "compute":
		return values("go", "xla", "cuda", "xla:/\tpath of a plug-in")
	case "compute-type":
		return values(explorer.ComputeTypes()...)
	case "linear-algebra":
		return values(engine.Algebras()...)
	case "gpu":
		return values("auto\tas many layers as fit", "off\tthe processor alone")
	case "engine":
		return values("llama.cpp\tbuilt in", "llama-server\tan installed one", "llama-server=\tpath or URL")
	case "workspace":
		return folders
	case "output":
		return filesOf("gguf")
	case "keys":
		return filesOf("toml")
	case "creds":
		return filesOf("creds")
	case "nats-ca", "nats-cert", "nats-key":
		return filesOf("pem", "crt", "key")
	case "shared", "files":
		return folders
	case "nats":
		return values("nats://", "tls://")
	case "theme":
		return listOf(values(append(tui.ThemeNames(), "dark", "light")...))
	case "vocab":
		words := []string{"auto\tchosen together with types", "0.999\tof the tokens of the texts", "0.99"}
		if _, fits := f.Value.(*fitVocab); fits {
			words = append(words, "all\tthe whole vocabulary")
		}
		return values(words...)
	case "audit":
		return filesOf("jsonl")
	case "file", "key-file", "authorized-keys", "host-key":
		return filesOf()
	case "ratio":
		return values("0.9", "0.8", "0.7", "0.6", "0.5")
	case "ratios":
		return listOf(values("0.9", "0.8", "0.7", "0.6", "0.5"))
	case "spill", "weights", "levels-space":
		return values("1GB", "2GB", "4GB", "8GB", "16GB")
	case "listen":
		return values(f.DefValue)
	case "name", "save", "prompt", "system", "id", "search":
		return none
	}
	switch f.Value.Type() {
	case "bool":
		return values("true", "false")
	case "int", "int64", "uint64", "float", "float64", "duration", "intSlice": // numbers
		return none
	}
	return nil
}

// isList reports whether the value of a flag is a list, as its type or its plural says.
func isList(f *pflag.Flag) bool {
	_, ok := f.Value.(pflag.SliceValue)
	return ok || strings.HasSuffix(f.Name, "s")
}

func none(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return nil, ended }

func folders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// filesOf returns the candidates of a file with one of the endings, or of any file. The shell lists them.
func filesOf(endings ...string) candidates {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		if len(endings) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// values returns words that are known.
func values(words ...string) candidates {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return begin(word, words)
	}
}

// begin returns the words that begin with a word. Words that end in = or / continue.
func begin(word string, words []string) ([]string, cobra.ShellCompDirective) {
	var found []string
	directive := ended
	for _, w := range words {
		if !strings.HasPrefix(w, word) {
			continue
		}
		found = append(found, w)
		value, _, _ := strings.Cut(w, "\t")
		if strings.HasSuffix(value, "=") || strings.HasSuffix(value, "/") {
			directive = continued
		}
	}
	return found, directive
}

// listOf returns candidates for the last element of a list with commas, without those that it has.
func listOf(of candidates) candidates {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		at := strings.LastIndexByte(word, ',') + 1
		found, _ := of(cmd, args, word[at:])
		given := strings.Split(word[:at], ",")
		var rest []string
		for _, w := range found {
			if value, _, _ := strings.Cut(w, "\t"); !slices.Contains(given, value) {
				rest = append(rest, word[:at]+w)
			}
		}
		return rest, continued
	}
}

// orFiles returns words, and files with an ending and folders beside them. Where no word fits the shell lists the files, which
// expands ~ and quotes better.
func orFiles(words []string, ending string) candidates {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		found, directive := begin(word, words)
		if len(found) == 0 {
			if ending == "" {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return []string{strings.TrimPrefix(ending, ".")}, cobra.ShellCompDirectiveFilterFileExt
		}
		paths, more := begin(word, localFiles(word, ending))
		return append(found, paths...), directive | more
	}
}

// mostEntries bounds how many entries of a folder are looked at.
const mostEntries = 2000

// localFiles returns the paths that begin with a word: folders, each with a slash, and files with an ending, "" for all.
func localFiles(word, ending string) []string {
	dir, base := filepath.Split(word)
	from := dir
	if from == "" {
		from = "."
	}
	f, err := os.Open(from)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read from
	entries, err := f.ReadDir(mostEntries)
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base) || base == "" && strings.HasPrefix(name, ".") {
			continue
		}
		if info, err := os.Stat(filepath.Join(from, name)); err == nil && info.IsDir() { // follows links
			paths = append(paths, dir+name+"/")
		} else if strings.HasSuffix(strings.ToLower(name), ending) {
			paths = append(paths, dir+name)
		}
	}
	slices.Sort(paths)
	return paths
}

// named returns candidates for NAME=FILE, with names that are known, and for FILE where there are none.
func named(names []string) candidates {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if name, path, ok := strings.Cut(word, "="); ok {
			return begin(word, prefixed(name+"=", localFiles(path, "")))
		}
		if len(names) > 0 {
			return begin(word, names)
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

func prefixed(prefix string, words []string) []string {
	for i, w := range words {
		words[i] = prefix + w
	}
	return words
}

// texts returns candidates for a calibration text: a built-in one, a file or a folder, or one of these after NAME=.
func texts(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(word, "=") {
		return named(nil)(cmd, args, word)
	}
	return orFiles([]string{explorer.TextWiki + "\tWikipedia", explorer.TextWeb + "\tweb pages", explorer.TextCode + "\tprograms", explorer.TextChat + "\tconversations that the model writes"}, "")(cmd, args, word)
}

// targets returns the forms of a target.
func targets(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	return begin(word, []string{
		"0.9\tof the block parameters", "0.8", "0.7", "0.6", "0.5", "80MB\tsize of the file", "memory=\tweights and KV cache, such as 512MB@4096",
		"speed=\ttimes the dense model's, such as 1.5x", "latency=\tper generated token, such as 12ms",
	})
}

// settings returns the settings of the strategy that --strategy names, or of all.
func settings(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	names := search.Names()
	if f := cmd.Flag("strategy"); f != nil && f.Changed {
		names = []string{f.Value.String()}
	}
	at := strings.LastIndexByte(word, ',') + 1
	var words []string
	for _, name := range names {
		strategy, err := search.New(name)
		if err != nil {
			return nil, ended
		}
		for _, s := range search.Settings(strategy) {
			value := word[:at] + s.Name + "="
			if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, value+"\t") }) {
				words = append(words, value+"\t"+s.Help+": "+s.Values)
			}
		}
	}
	return begin(word, words)
}

// subcommandWords returns the subcommands of the command that args name.
func subcommandWords(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	at := cmd.Root()
	for _, name := range args {
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
		if i < 0 {
			return nil, ended
		}
		at = at.Commands()[i]
	}
	var words []string
	for _, sub := range at.Commands() {
		if sub.IsAvailableCommand() {
			words = append(words, sub.Name()+"\t"+sub.Short)
		}
	}
	return begin(word, words)
}

// models returns candidates for a model: files with an ending and folders, the repositories in the cache of the Hugging Face hub,
// and the models in lathe's cache.
func (a *app) models(ending string) candidates {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		var words []string
		for _, name := range hub.New(a.getenv).Cached() {
			words = append(words, name+"\tin the cache of the Hugging Face hub")
		}
		if ending != "" {
			for _, dir := range []string{"models", "converted"} {
				if folder := a.cached(dir); folder != "" {
					for _, path := range localFiles(folder+"/", ending) {
						words = append(words, path+"\tin lathe's cache")
					}
				}
			}
		}
		if word == "" && !cmd.HasParent() { // beside the commands
			words = nil
		}
		found, directive := orFiles(words, ending)(cmd, args, word)
		if cmd.HasParent() || len(found) != 1 || directive != cobra.ShellCompDirectiveFilterFileExt || strings.ContainsAny(word, "/~.") {
			return found, directive
		}
		return begin(word, localFiles(word, ending)) // the commands are candidates too, and would be taken for endings
	}
}
