package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamaserver"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/shipped"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/tui"
	"github.com/lathe-llm/lathe/tui/lathe/internal/environ"
)

// exploration is what commands work with: one opened for the command, or the one that a server shares.
type exploration interface {
	Snapshot() *explorer.Snapshot
	Wait(ctx context.Context, revision uint64) error
	Do(ctx context.Context, a explorer.Actor, c explorer.Command) (explorer.Receipt, error)
}

// app holds what the commands share: their streams, their environment and the backend.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	// backend returns the backend, which the first call opens. spec is the value of --compute, "" for the fastest device.
	backend func(spec string) (explorer.Backend, error)
	// diagnose checks the components that are installed on this machine.
	diagnose func(ctx context.Context, spec string, p engine.Places) ([]engine.Check, error)
	// work works for commands of other processes.
	work func(ctx context.Context, spec string, r engine.WorkRequest) (remote.Done, error)
	// evaluateElsewhere has files evaluated on tasks by workers.
	evaluateElsewhere func(ctx context.Context, spec string, r engine.ZeroShotRequest) error
	// verify checks a file against the model that it was cut from.
	verify func(ctx context.Context, spec, path, source string, m explorer.Monitor) (gguf.Verification, error)
	// open runs the terminal interface over an exploration.
	open func(ctx context.Context, a *app, e *explorer.Exploration, o tui.Options) error

	// shared is the exploration of a server that runs the command for a client, nil for a command of this machine. who is
	// the client.
	shared exploration
	who    explorer.Actor

	sameUser    bool           // shared is the exploration of another process of this user, who may name files
	command     *cobra.Command // that runs, with its arguments
	arguments   []string
	modelGiven  bool   // the last argument is MODEL
	first       string // argument of the program
	lastMessage uint64 // id of the last message of the exploration that was printed

	// Set by flags.
	json        bool
	workspace   string
	compute     string
	gpu         string
	engine      string
	algebra     string // what computes linear algebra
	computeType string // of weights on the device
	atOnce      int    // windows that a graph computes, 0 for the default
	spill       int64  // bytes, 0 for the default
	weights     int64  // bytes, 0 for the default
}

// run runs a command line and returns its exit status.
func run(ctx context.Context, a *app, args []string) int {
	out, ok := a.stdout.(*os.File)
	if !ok {
		return a.execute(ctx, args)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	checked := &stdout{file: out, ctx: ctx, cancel: cancel}
	a.stdout = checked
	return checked.status(a.execute(ctx, args), a.stderr)
}

// execute runs a command line and returns its exit status, but for failed writes to standard output.
func (a *app) execute(ctx context.Context, args []string) int {
	if len(args) > 0 {
		a.first = args[0]
	}
	root := newRoot(a)
	if slices.Contains(args, "--version") || slices.Contains(args, "-v") {
		root.SetVersionTemplate(builtFrom().String())
	}
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	report := func(w io.Writer, err error) {
		if s, ok := a.stdout.(*stdout); (!ok || s.failure() == nil) && !errors.Is(err, context.Canceled) && !errors.As(err, new(forwarded)) {
			fmt.Fprintf(w, "lathe: %s\n", firstLine(err))
		}
	}
	if a.shared == nil && (a.first == cobra.ShellCompRequestCmd || a.first == cobra.ShellCompNoDescRequestCmd) {
		root.InitDefaultHelpCmd()
		if err := a.complete(root); err != nil {
			report(a.stderr, err)
			return exitFailure
		}
	}
	// fang's styles ask the terminal of this process, which is not the client's, or is one that does not understand the question.
	if a.shared != nil || a.dumb() && isTerminal(a.stdout) {
		root.SilenceUsage, root.SilenceErrors = true, true
		err := commandError(root, args, root.ExecuteContext(ctx))
		if err != nil {
			report(a.stderr, err)
		}
		return status(err)
	}
	joinLines(root)
	err := fang.Execute(ctx, root, fang.WithVersion(version()), fang.WithoutManpage(), fang.WithErrorHandler(func(w io.Writer, _ fang.Styles, err error) {
		report(w, commandError(root, args, err))
	}))
	return status(err)
}

// joinLines joins the lines of each paragraph in the help of a command and its subcommands: fang wraps them to the width
// of the terminal.
func joinLines(c *cobra.Command) {
	c.Long = lineBreak.ReplaceAllString(c.Long, "$1 $2")
	for _, sub := range c.Commands() {
		joinLines(sub)
	}
}

var lineBreak = regexp.MustCompile(`([^\n])\n(\S)`)

// newRoot returns the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "lathe [MODEL]",
		Short: "Find efficient subnets of large language models",
		Long: "lathe makes a trained language model smaller without retraining its matrices: it scores which units matter, drops the\n" +
			"others, re-fits the remaining weights, tunes norms and channel scales, and writes a plain GGUF file that stock llama.cpp\n" +
			"runs. Without a command it opens the explorer on MODEL, or on the default model. MODEL is a GGUF file, a folder of\n" +
			"safetensors files, or a repository on the Hugging Face hub.",
		Example: "  # explore the default model\n  lathe\n" +
			"  # cut a model to 0.8 of its block parameters and chat with it\n  lathe cut model.gguf --ratio 0.8 -o small.gguf\n  lathe chat small.gguf",
		Args: rootArgs,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			a.command, a.arguments = cmd, args
			if err := checkChoices(cmd); err != nil {
				return err
			}
			if a.sameUser {
				return nil
			}
			if a.shared != nil {
				return noFiles(cmd)
			}
			if err := environ.Err(); err != nil {
				return usage(err)
			}
			if _, err := infer.ParseGPU(a.gpu); err != nil {
				return usage(fmt.Errorf("--gpu %w", err))
			}
			if !cmd.Root().PersistentFlags().Changed("engine") { // eval and compare have a flag of the same name
				a.engine = a.getenv(engineVariable)
			}
			if _, _, err := llamaserver.Parse(a.engine); err != nil {
				return usage(fmt.Errorf("--engine %w", err))
			}
			if a.algebra != "" && !slices.Contains(engine.Algebras(), a.algebra) {
				return usage(fmt.Errorf("--linear-algebra %q: not %s", a.algebra, strings.Join(engine.Algebras(), ", ")))
			}
			if a.computeType != "" && !slices.Contains(explorer.ComputeTypes(), a.computeType) {
				return usage(fmt.Errorf("--compute-type %q: not %s", a.computeType, strings.Join(explorer.ComputeTypes(), ", ")))
			}
			if a.atOnce != 0 && !explorer.AtOnceRange().Has(float64(a.atOnce)) {
				return usage(fmt.Errorf("--at-once %d: not in %v", a.atOnce, explorer.AtOnceRange()))
			}
			switch a.compute {
			case "", "auto", "go", "xla", "cuda":
				return nil
			}
			if !strings.HasPrefix(a.compute, "xla:/") {
				return usage(fmt.Errorf("--compute %q: not go, xla, cuda or xla:/path/plugin.so%s", a.compute, orNearest(a.compute, []string{"go", "xla", "cuda"})))
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "write results as JSON on standard output, and nothing else")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err, a.first) })
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.DisableDefaultCmd = true // it is one of the commands
	if a.shared != nil {
		root.Use, root.Example, root.Args, root.RunE = "lathe", "", subcommandArgs, needsSubcommand
		root.AddCommand(a.sharedCommands()...)
		return root
	}
	flags.StringVar(&a.workspace, "workspace", "", "folder for subnets, edits and chats (default: one per model)")
	exploreFlags(a, root)
	root.Version = version()
	flags.StringVar(&a.compute, "compute", "", "device that search and re-fit compute on: go, xla, cuda or xla:/path/plugin.so (default: the fastest one found)")
	flags.StringVar(&a.algebra, "linear-algebra", engine.AlgebraAuto, "what computes the linear algebra of re-fits: auto (the device of --compute if that is a GPU, else go), go (the processor), xla (the device)")
	flags.StringVar(&a.computeType, "compute-type", explorer.Floats, "type of the weights in the memory of searches and re-fits: f32, or bf16, which rounds them and takes half of the memory")
	flags.IntVar(&a.atOnce, "at-once", 0, "calibration windows that a graph computes together (default: one on the processor; on a GPU as many as its free memory permits)")
	gpuFlag(flags, &a.gpu)
	flags.StringVar(&a.engine, "engine", "", "what runs models in chats, benchmarks and serve-api: llama.cpp (built in), llama-server (an installed one), llama-server=PATH or llama-server=URL (default: $"+engineVariable+", else llama.cpp)")
	flags.Var((*byteSize)(&a.spill), "spill", "memory for the residual stream of calibration, and as much again for a matrix's inputs; the rest goes to a temporary file (default 4GiB)")
	flags.Var((*byteSize)(&a.weights), "weights", "memory for weights; the others are read from the model's file when they are needed (default: half of the free memory)")
	root.AddCommand(a.commands()...)
	return root
}

// commands returns the subcommands of the root.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.infoCommand(), a.convertCommand(), a.cutCommand(), a.quantizeCommand(), a.reformCommand(), a.tuneCommand(), a.vocabCommand(), a.searchCommand(), a.compareCommand(), a.masksCommand(),
		a.evalCommand(), a.zeroShotCommand(), a.chatCommand(), a.probeCommand(), a.benchCommand(), a.statusCommand(), a.subnetsCommand(), a.chatsCommand(), a.benchesCommand(), a.statisticsCommand(), a.messagesCommand(),
		a.stopCommand(), a.keysCommand(), a.themesCommand(), a.recipeCommand(), a.fitCommand(),
		a.verifyCommand(), a.serveCommand(), a.serveAPICommand(), a.workerCommand(), a.doctorCommand(),
		a.completionCommand(), a.manCommand(), a.versionCommand(),
	}
}

// modelArg returns the model of a command: its argument, or the default model.
func (a *app) modelArg(args []string) (string, error) {
	if a.shared != nil {
		if len(args) > 0 {
			return "", usage(fmt.Errorf("the server has one model: unexpected argument %q", args[0]))
		}
		return a.shared.Snapshot().Model.Path, nil
	}
	if a.modelGiven = len(args) > 0; a.modelGiven {
		return args[0], nil
	}
	path, err := a.provided("models", defaultModel)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", input(fmt.Errorf("no model given, and the default model is not at %s: %s", path, engine.HowToGetAModel()))
	}
	return path, nil
}

// defaultModel is the file name of the default model in the cache's models folder.
const defaultModel = "SmolLM2-135M-Instruct.Q4_1.gguf"

// The variables of lathe's folders.
const (
	cacheVariable      = "LATHE_CACHE"
	workspacesVariable = "LATHE_WORKSPACES"
)

// engineVariable has the value of --engine where that is not given.
const engineVariable = "LATHE_ENGINE"

// inCache returns a path in the folder for data that can be downloaded again.
func (a *app) inCache(parts ...string) (string, error) {
	dir := a.getenv(cacheVariable)
	if dir == "" {
		base, err := a.base("XDG_CACHE_HOME", ".cache")
		if err != nil {
			return "", err
		}
		dir = filepath.Join(base, "lathe")
	}
	return filepath.Join(append([]string{dir}, parts...)...), nil
}

// provided returns a path in the folder for data that can be downloaded again, or in the folder of files that came with the
// program, where only that has it.
func (a *app) provided(parts ...string) (string, error) {
	path, err := a.inCache(parts...)
	if err == nil {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	if dir := shipped.Dir(); dir != "" {
		own := filepath.Join(append([]string{dir}, parts...)...)
		if _, err := os.Stat(own); err == nil {
			return own, nil
		}
	}
	return path, err
}

// workspaces returns the folder of the workspaces of all models.
func (a *app) workspaces() (string, error) {
	if dir := a.getenv(workspacesVariable); dir != "" {
		return dir, nil
	}
	base, err := a.base("XDG_DATA_HOME", ".local", "share")
	return filepath.Join(base, "lathe", "workspaces"), err
}

// base returns the folder that a variable of the XDG specification names, which ignores relative paths, or the default in the
// user's home folder.
func (a *app) base(variable string, below ...string) (string, error) {
	if dir := a.getenv(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := a.getenv("HOME")
	if !filepath.IsAbs(home) || home == environ.NoHome {
		return "", folder{errors.New("the user has no home folder: set HOME, or set " + cacheVariable + " and " + workspacesVariable + " to folders that can be written to")}
	}
	return filepath.Join(append([]string{home}, below...)...), nil
}

// unwritable returns the error of a folder that cannot be written to, with the variable that names another one.
func unwritable(err error, variable string) error {
	return folder{fmt.Errorf("%w: set %s to a folder that can be written to", err, variable)}
}

// calibrationText returns the path of the default calibration text, "" if it was not downloaded.
func (a *app) calibrationText() string {
	path := a.builtInText("wiki.utf8")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// webText returns the path of the built-in text of web pages, "" where there is no cache.
func (a *app) webText() string { return a.builtInText("c4.utf8") }

// codeText returns the path of the built-in text of programs, "" where there is no cache.
func (a *app) codeText() string { return a.builtInText("code.utf8") }

func (a *app) builtInText(name string) string {
	path, err := a.provided("text", name)
	if err != nil {
		return ""
	}
	return path
}

// cached returns a path in the folder for data that can be downloaded or made again, "" where there is none.
func (a *app) cached(parts ...string) string {
	path, err := a.inCache(parts...)
	if err != nil {
		return ""
	}
	return path
}

// scratch creates a folder for temporary files.
func (a *app) scratch(purpose string) (*scratch.Folder, error) {
	dir, err := scratch.New(a.getenv("LATHE_SCRATCH"), purpose)
	if err != nil && a.shared == nil {
		err = output{fmt.Errorf("%w ($LATHE_SCRATCH names another place)", err)}
	}
	return dir, err
}

// actor returns who gives the commands: the person at the terminal, or a server's client.
func (a *app) actor() explorer.Actor {
	if a.shared != nil {
		return a.who
	}
	name := a.getenv("USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	return explorer.Actor{Name: name, Role: explorer.RoleOwner}
}

// storage is where an exploration is stored.
type storage int

const (
	inMemory    storage = iota // nowhere, unless --workspace names a folder
	inWorkspace                // in the model's workspace
	orReadOnly                 // the same for interactive use, read-only if another process holds it
	readOnly                   // in the model's workspace, without changing it
)

// openExploration opens a model for a command.
func (a *app) openExploration(ctx context.Context, model string, k storage) (*explorer.Exploration, error) {
	model, err := a.local(ctx, model)
	if err != nil {
		return nil, err
	}
	backend, err := a.backend(a.compute)
	if err != nil {
		return nil, err
	}
	o := explorer.Options{Model: model, Workspace: a.workspace, Backend: backend, ReadOnly: k == readOnly, Scratch: a.getenv("LATHE_SCRATCH")}
	folderIsOurs := o.Workspace == "" && k != inMemory
	if folderIsOurs {
		all, err := a.workspaces()
		if err != nil {
			return nil, err
		}
		m, err := backend.Open(ctx, model)
		if err != nil {
			return nil, err
		}
		o.Workspace = explorer.DefaultWorkspace(all, m.Info())
		if err := m.Close(); err != nil {
			return nil, err
		}
	}
	if k == orReadOnly {
		o.MeasureDraft = &explorer.Measure{Seq: 1024, Windows: 2}
	}
	e, err := explorer.Open(ctx, o)
	if err != nil && o.Workspace != "" && isUnwritable(err, o.Workspace) {
		if folderIsOurs {
			return nil, unwritable(err, workspacesVariable)
		}
		return nil, folder{fmt.Errorf("workspace: %w", err)}
	}
	if err != nil {
		return nil, err
	}
	if w := e.Snapshot().Workspace; k == inWorkspace && w.ReadOnly {
		return nil, held{errors.Join(fmt.Errorf("workspace %s is %s: %w", w.Path, w.Holder, explorer.ErrReadOnly), e.Close()), w.Path}
	}
	return e, nil
}

// with opens a model, calls use and closes the model.
func (a *app) with(ctx context.Context, model string, k storage, use func(exploration) error) (err error) {
	if a.shared != nil {
		return use(a.shared)
	}
	e, err := a.openExploration(ctx, model, k)
	if h := (held{}); errors.As(err, &h) {
		if done, failed := a.forward(ctx, h.workspace, a.machineFlags()); done {
			return failed
		}
	}
	if err != nil {
		return err
	}
	a.lastMessage = 0
	defer func() { err = errors.Join(err, e.Close()) }()
	if k == readOnly && a.showsLive() {
		if done, failed := a.forward(ctx, e.Snapshot().Workspace.Path, nil); done {
			return failed
		}
	}
	defer a.serveControl(ctx, e)()
	return use(e)
}

// showsLive reports whether the command shows the state of the process that holds the workspace.
func (a *app) showsLive() bool {
	if a.command == nil {
		return false
	}
	switch strings.TrimPrefix(a.command.CommandPath(), "lathe ") {
	case "status", "search status", "search front", "messages":
		return true
	}
	return false
}
