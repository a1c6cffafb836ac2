package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/infer/hub"
)

// choicesAnnotation marks a flag whose values are known.
const choicesAnnotation = "lathe_choices"

// choices declares the values of a flag, or of each element of a list of them. checkChoices refuses others.
func choices(flags *pflag.FlagSet, name string, values ...string) {
	if err := flags.SetAnnotation(name, choicesAnnotation, values); err != nil {
		panic(err) // the caller has defined the flag
	}
}

// checkChoices returns an error for a flag whose value is not one of its choices.
func checkChoices(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := f.Annotations[choicesAnnotation]
		if len(values) == 0 {
			return
		}
		given := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			given = list.GetSlice()
		} else if isList(f) {
			given = strings.Split(given[0], ",")
		}
		for _, v := range given {
			v = strings.TrimSpace(v)
			same := func(value string) bool { return strings.EqualFold(value, v) }
			if v == "" && f.DefValue == "" || slices.ContainsFunc(values, same) || err != nil {
				continue
			}
			err = usage(fmt.Errorf("--%s %q: not one of %s%s", f.Name, v, strings.Join(values, ", "), orNearest(v, values)))
		}
	})
	return err
}

// subcommandArgs refuses arguments of a command that only groups others.
func subcommandArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownCommand(cmd, args[0])
}

// unknownCommand returns the error of a word that is none of a command's subcommands.
func unknownCommand(cmd *cobra.Command, word string) error {
	hint := orNearest(word, subcommands(cmd))
	if elsewhere := commandsNamed(cmd.Root(), word); cmd == cmd.Root() && len(elsewhere) > 0 {
		hint = "; there is " + strings.Join(elsewhere, ", ")
	}
	if hint == "" {
		hint = fmt.Sprintf("; `%s --help` lists the commands", cmd.CommandPath())
	}
	if strings.HasSuffix(cmd.Use, "[MODEL]") {
		return usage(fmt.Errorf("unknown command %q, and there is no such file or folder%s", word, hint))
	}
	return usage(fmt.Errorf("unknown command %q for %s%s", word, cmd.CommandPath(), hint))
}

// commandsNamed returns the commands with a name that are part of another one, each as it is typed.
func commandsNamed(root *cobra.Command, name string) []string {
	var out []string
	for _, group := range root.Commands() {
		for _, c := range group.Commands() {
			if c.Name() == name && c.IsAvailableCommand() {
				out = append(out, "`"+c.CommandPath()+"`")
			}
		}
	}
	return out
}

func subcommands(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

// isModel reports whether a word can be a model: a file, a folder, the name of a repository, or a path of a file that does not
// exist.
func isModel(word string) bool {
	if _, err := os.Lstat(word); err == nil || strings.ContainsAny(word, `/\`) || strings.HasSuffix(strings.ToLower(word), ".gguf") {
		return true
	}
	_, ok := hub.Parse(word)
	return ok
}

// rootArgs refuses arguments of the program that are neither a command nor a model.
func rootArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && !isModel(args[0]):
		return unknownCommand(cmd, args[0])
	case len(args) > 1:
		return usage(fmt.Errorf("one MODEL, not %d: %s", len(args), strings.Join(args, " ")))
	}
	return nil
}

var (
	unknownFlag      = regexp.MustCompile(`^unknown flag: --(.+)$`)
	unknownShorthand = regexp.MustCompile(`^unknown shorthand flag: '.' in -(.+)$`)
	unknownCommands  = regexp.MustCompile(`^unknown command "(.*)" for "(.+?)"`)
)

// flagError marks an error of the flags' parser as invalid usage, and names the flag that is nearest to an unknown one. first
// is the first argument of the program.
func flagError(cmd *cobra.Command, err error, first string) error {
	if !cmd.HasParent() && first != "" && first[0] != '-' && !isModel(first) {
		return unknownCommand(cmd, first)
	}
	for _, pattern := range []*regexp.Regexp{unknownFlag, unknownShorthand} {
		if m := pattern.FindStringSubmatch(err.Error()); m != nil {
			word, _, _ := strings.Cut(m[1], "=")
			var names []string
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if !f.Hidden {
					names = append(names, "--"+f.Name)
				}
			})
			return usage(fmt.Errorf("%w%s", err, orNearest("--"+word, names)))
		}
	}
	if invalid := (*pflag.InvalidValueError)(nil); errors.As(err, &invalid) {
		return usage(valueError(invalid))
	}
	if missing := (*pflag.ValueRequiredError)(nil); errors.As(err, &missing) {
		f := missing.GetFlag()
		return usage(fmt.Errorf("--%s: the value is missing: %s", f.Name, f.Usage))
	}
	return usage(err)
}

// valueError returns the error of a flag's value: what it should be.
func valueError(err *pflag.InvalidValueError) error {
	f := err.GetFlag()
	expected := map[string]string{
		"int": "a whole number", "int64": "a whole number", "uint64": "a whole number of at least 0", "float64": "a number",
		"bool": "true or false", "duration": "a duration such as 90s or 10m", "intSlice": "a list of whole numbers such as 128,512",
	}[f.Value.Type()]
	switch cause := err.Unwrap(); {
	case errors.As(cause, new(*strconv.NumError)), strings.HasPrefix(cause.Error(), "time: "): // of Go's own types
		if expected != "" {
			return fmt.Errorf("--%s: %q is not %s", f.Name, err.GetValue(), expected)
		}
		return fmt.Errorf("--%s: %w", f.Name, cause)
	default:
		return fmt.Errorf("--%s: %w", f.Name, cause)
	}
}

// argumentsError returns the error of a command with too few or too many arguments.
func argumentsError(cmd *cobra.Command) error {
	given, names := cmd.Flags().Args(), placeholders(cmd)
	switch {
	case len(given) > len(names) && len(names) == 0:
		return usage(fmt.Errorf("%s takes no arguments: unexpected %q", cmd.CommandPath(), given[0]))
	case len(given) > len(names):
		return usage(fmt.Errorf("unexpected argument %q: %s", given[len(names)], usageOf(cmd)))
	case len(given) < len(names):
		return usage(fmt.Errorf("%s is missing: %s", names[len(given)], usageOf(cmd)))
	}
	return usage(errors.New(usageOf(cmd)))
}

// usageOf returns how a command is called.
func usageOf(cmd *cobra.Command) string {
	return "lathe " + strings.TrimSuffix(strings.TrimPrefix(cmd.UseLine(), "lathe "), " [flags]")
}

var (
	wrongCount   = regexp.MustCompile(`^(accepts |requires at )`)
	missingFlags = regexp.MustCompile(`^required flag\(s\) (.+) not set$`)
)

// commandError adds to the parser's errors what was expected: the nearest command to an unknown one, the arguments and flags
// that are missing.
func commandError(root *cobra.Command, args []string, err error) error {
	if err == nil {
		return nil
	}
	if wrongCount.MatchString(err.Error()) {
		if cmd, _, found := root.Find(args); found == nil {
			return argumentsError(cmd)
		}
	}
	if m := missingFlags.FindStringSubmatch(err.Error()); m != nil {
		if cmd, _, found := root.Find(args); found == nil {
			return usage(missingFlag(cmd, m[1]))
		}
	}
	m := unknownCommands.FindStringSubmatch(err.Error())
	if m == nil || errors.Is(err, errUsage) {
		return err
	}
	cmd := root
	for _, name := range strings.Fields(m[2])[1:] {
		for _, sub := range cmd.Commands() {
			if sub.Name() == name {
				cmd = sub
			}
		}
	}
	if len(subcommands(cmd)) == 0 {
		return usage(err)
	}
	return unknownCommand(cmd, m[1])
}

// missingFlag returns the error of required flags, whose names are in quotes and separated by commas.
func missingFlag(cmd *cobra.Command, quoted string) error {
	name := strings.Trim(strings.Split(quoted, ", ")[0], `"`)
	err := fmt.Errorf("--%s is missing", name)
	if f := cmd.Flags().Lookup(name); f != nil {
		err = fmt.Errorf("%w: %s", err, f.Usage)
	}
	if args := cmd.Flags().Args(); len(args) == 1 && strings.HasSuffix(cmd.Use, " [MODEL]") {
		err = fmt.Errorf("%w (%s is taken as the model)", err, args[0])
	}
	return err
}

// helpCommand is `help`, which refuses unknown commands.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := commandAt(cmd.Root(), args)
			if err != nil {
				return err
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

// nearest returns the name with the fewest edits to a word: letters inserted, deleted, replaced, or swapped with their
// neighbour (optimal string alignment distance). Of names at the same distance it prefers one that begins as the word does.
func nearest(word string, names []string) string {
	word = strings.ToLower(word)
	best, least := "", -1
	for _, name := range names {
		d := 2 * edits([]rune(word), []rune(strings.ToLower(name)))
		if name == "" || word == "" || !strings.EqualFold(name[:1], word[:1]) {
			d++
		}
		if least < 0 || d < least {
			best, least = name, d
		}
	}
	return best
}

// orNearest returns the end of an error that names the nearest of some names to a word, "" where none is near.
func orNearest(word string, names []string) string {
	best := nearest(word, names)
	if a, b := []rune(strings.ToLower(word)), []rune(strings.ToLower(best)); 2*edits(a, b) > max(len(a), len(b))+1 {
		return ""
	}
	return "; the nearest is " + best
}

// longestWord bounds the work of edits.
const longestWord = 64

func edits(a, b []rune) int {
	a, b = a[:min(len(a), longestWord)], b[:min(len(b), longestWord)]
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range b {
		d[0][j+1] = j + 1
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
