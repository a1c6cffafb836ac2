package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/sshserver"
)

// sharedCommands returns the commands that a server runs for its clients: those that need its exploration and nothing else of
// its machine.
func (a *app) sharedCommands() []*cobra.Command {
	search := a.searchCommand()
	search.Use, search.Args, search.Example = "search", subcommandArgs, ""
	search.Long = "Starts a search and follows it until its budget is spent; the best subnet goes into the workspace. With --json it writes a\n" +
		"line for each generation and one at the end. The search belongs to the server and continues if the client disconnects."
	begin := a.newSearchCommand(func(ctx context.Context, e exploration, c explorer.StartSearch, t explorer.Tuning) error {
		if t.On() {
			return usage(errors.New("--tune: the search runs on the server; tune what it found by `lathe tune`"))
		}
		if _, err := e.Do(ctx, a.actor(), c); err != nil {
			return err
		}
		r := newStatus(e.Snapshot())
		return a.result(r, r.words)
	})
	begin.Use, begin.Short, begin.Args = "start", "Start a search and show the status", cobra.NoArgs
	search.AddCommand(begin)
	return []*cobra.Command{
		a.infoCommand(), a.statusCommand(), a.subnetsCommand(), a.masksCommand(), a.cutCommand(), a.quantizeCommand(), a.reformCommand(), a.tuneCommand(), a.vocabCommand(), search, a.evalCommand(),
		a.chatCommand(), a.probeCommand(), a.benchCommand(), a.fitCommand(), a.chatsCommand(), a.benchesCommand(), a.statisticsCommand(), a.messagesCommand(), a.keysCommand(),
		a.stopCommand(),
	}
}

// steerCommands returns the commands on the running search.
func (a *app) steerCommands() []*cobra.Command {
	return []*cobra.Command{
		a.steerCommand("pause", "Pause the running search", 0, func(s *explorer.Snapshot, _ []string) (explorer.Command, error) {
			id, err := searching(s)
			return explorer.PauseJob{Job: id}, err
		}),
		a.steerCommand("resume", "Resume the paused search", 0, func(s *explorer.Snapshot, _ []string) (explorer.Command, error) {
			id, err := searching(s)
			return explorer.ResumeJob{Job: id}, err
		}),
		a.steerCommand("stop", "Stop the running search and keep its best subnet", 0, func(s *explorer.Snapshot, _ []string) (explorer.Command, error) {
			id, err := searching(s)
			return explorer.StopJob{Job: id}, err
		}),
		a.steerCommand("retarget TARGET", "Change the target of the running search, to any that `search --target` takes", 1, func(_ *explorer.Snapshot, args []string) (explorer.Command, error) {
			t, err := (&targetFlags{text: args[0]}).target()
			return explorer.Retarget{Target: t}, err
		}),
		a.steerCommand("prompt PROMPT", "Change the prompt that new best candidates of the running search answer; '' ends the answers", 1, func(_ *explorer.Snapshot, args []string) (explorer.Command, error) {
			return explorer.SetPrompt{Prompt: args[0]}, nil
		}),
		a.steerCommand("drain WORKER", "Have a worker of the running search or another job finish its task and leave", 1, func(_ *explorer.Snapshot, args []string) (explorer.Command, error) {
			return explorer.DrainWorker{Worker: args[0]}, nil
		}),
		a.steerCommand("inject SUBNET", "Add a subnet to the population of the running search", 1, func(s *explorer.Snapshot, args []string) (explorer.Command, error) {
			id, err := find(s, args[0])
			return explorer.Inject{Subnet: id}, err
		}),
	}
}

func (a *app) stopCommand() *cobra.Command {
	return a.steerCommand("stop JOB", "Stop a job, as listed by `status`", 1, func(_ *explorer.Snapshot, args []string) (explorer.Command, error) {
		return explorer.StopJob{Job: explorer.JobID(args[0])}, nil
	})
}

// steerCommand returns a command with n arguments that runs one command on the running explorer and shows the status.
func (a *app) steerCommand(use, short string, n int, command func(*explorer.Snapshot, []string) (explorer.Command, error)) *cobra.Command {
	return &cobra.Command{
		Use: use + " [MODEL]", Short: short, Args: cobra.RangeArgs(n, n+1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[n:])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				c, err := command(e.Snapshot(), args[:n])
				if err != nil {
					return err
				}
				if _, err := e.Do(cmd.Context(), a.actor(), c); err != nil {
					return err
				}
				r := newStatus(e.Snapshot())
				return a.result(r, r.words)
			})
		},
	}
}

// searching returns the job of the running or paused search.
func searching(s *explorer.Snapshot) (explorer.JobID, error) {
	i := slices.IndexFunc(s.Jobs, func(j explorer.Job) bool { return j.Kind == explorer.JobSearch && !j.State.Ended() })
	if i < 0 {
		return "", fmt.Errorf("search: %w: none is running", explorer.ErrNotFound)
	}
	return s.Jobs[i].ID, nil
}

// noFiles returns an error for flags that name files of the server's machine: clients may use its exploration, not its disk.
func noFiles(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if namesMachine(f.Name) {
			err = usage(fmt.Errorf("--%s is for the server's own user: clients cannot use its files or connect it to others", f.Name))
			return
		}
		switch f.Name {
		case "text", "test", "file", "output", "against":
			if text, ok := f.Value.(*calibrationText); ok && !text.c.NamesFile() {
				return // built-in texts
			}
			v := f.Value.String()
			word := f.Name == "against" && slices.Contains([]string{againstAuto, againstNone, explorer.AgainstDense}, v)
			if v != toStdout && !word {
				err = usage(fmt.Errorf("--%s names a file, and clients cannot use files of the server", f.Name))
			}
		}
	})
	return err
}

// clientTerminal is a stream to the terminal of a server's client.
type clientTerminal struct{ io.Writer }

// runShared runs a client's command line on a server's exploration, with the scratch folder of that exploration.
func runShared(ctx context.Context, c sshserver.Command, scratch string) int {
	environ := func(key string) string {
		switch key {
		case "LATHE_SCRATCH":
			return scratch
		case "NO_COLOR", "TERM":
			return variable(c.Environ)(key)
		}
		return ""
	}
	if c.Terminal {
		c.Stdout, c.Stderr = clientTerminal{c.Stdout}, clientTerminal{c.Stderr}
	}
	a := &app{stdin: c.Stdin, stdout: c.Stdout, stderr: c.Stderr, getenv: environ, shared: c.Exploration, who: c.Actor}
	if old := c.Exploration.Snapshot().Messages; len(old) > 0 {
		a.lastMessage = old[len(old)-1].ID // older messages do not concern this client
	}
	return run(ctx, a, c.Args)
}
