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

// sharedCommands are the commands a server runs for its clients: those that work on its exploration and on nothing else
// of its machine.
func (a *app) sharedCommands() []*cobra.Command {
	search := a.searchCommand()
	search.Use, search.Args, search.Example = "search", cobra.NoArgs, ""
	search.Long = "Starts a search and follows it until its budget is spent; the best subnet found goes into the workspace. With --json writes\n" +
		"a line for each generation and one at the end. The search is the server's: it goes on when the client is gone."
	begin := a.newSearchCommand(func(ctx context.Context, e exploration, c explorer.StartSearch) error {
		if _, err := e.Do(ctx, a.actor(), c); err != nil {
			return err
		}
		r := newStatus(e.Snapshot())
		return a.result(r, r.words)
	})
	begin.Use, begin.Short, begin.Args = "start", "Start a search and show the status", cobra.NoArgs
	search.AddCommand(
		begin,
		a.steerCommand("pause", "Let the running search stand still", cobra.NoArgs, func(s *explorer.Snapshot, _ []string) (explorer.Command, error) {
			id, err := searching(s)
			return explorer.PauseJob{Job: id}, err
		}),
		a.steerCommand("resume", "Let the paused search go on", cobra.NoArgs, func(s *explorer.Snapshot, _ []string) (explorer.Command, error) {
			id, err := searching(s)
			return explorer.ResumeJob{Job: id}, err
		}),
		a.steerCommand("stop", "End the running search and keep the best it found", cobra.NoArgs, func(s *explorer.Snapshot, _ []string) (explorer.Command, error) {
			id, err := searching(s)
			return explorer.StopJob{Job: id}, err
		}),
		a.steerCommand("retarget RATIO", "Change what the running search aims at", cobra.ExactArgs(1), func(_ *explorer.Snapshot, args []string) (explorer.Command, error) {
			ratios, err := parseRatios(args[0])
			if err != nil || len(ratios) != 1 {
				return nil, usage(errors.Join(err, fmt.Errorf("%q is not one ratio", args[0])))
			}
			return explorer.Retarget{Target: ratios[0]}, nil
		}),
		a.steerCommand("inject SUBNET", "Put a subnet into the population of the running search", cobra.ExactArgs(1), func(s *explorer.Snapshot, args []string) (explorer.Command, error) {
			id, err := find(s, args[0])
			return explorer.Inject{Subnet: id}, err
		}),
	)
	return []*cobra.Command{
		a.infoCommand(), a.statusCommand(), a.subnetsCommand(), a.masksCommand(), a.cutCommand(), a.reformCommand(), search, a.evalCommand(),
		a.chatCommand(), a.benchCommand(), a.fitCommand(),
		a.steerCommand("stop JOB", "End a job that `status` shows", cobra.ExactArgs(1), func(_ *explorer.Snapshot, args []string) (explorer.Command, error) {
			return explorer.StopJob{Job: explorer.JobID(args[0])}, nil
		}),
	}
}

// steerCommand gives one command to the server's exploration and shows its status.
func (a *app) steerCommand(use, short string, args cobra.PositionalArgs, command func(*explorer.Snapshot, []string) (explorer.Command, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := command(a.shared.Snapshot(), args)
			if err != nil {
				return err
			}
			if _, err := a.shared.Do(cmd.Context(), a.actor(), c); err != nil {
				return err
			}
			r := newStatus(a.shared.Snapshot())
			return a.result(r, r.words)
		},
	}
}

// searching is the job of the search that has not ended.
func searching(s *explorer.Snapshot) (explorer.JobID, error) {
	i := slices.IndexFunc(s.Jobs, func(j explorer.Job) bool { return j.Kind == explorer.JobSearch && !j.State.Ended() })
	if i < 0 {
		return "", fmt.Errorf("search: %w: none is running", explorer.ErrNotFound)
	}
	return s.Jobs[i].ID, nil
}

// noFiles refuses flags that name files of the server's machine: clients see its exploration, not its disk.
func noFiles(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "text", "test", "file", "output", "dense":
			if f.Value.String() != toStdout {
				err = usage(fmt.Errorf("--%s names a file, and a server's files cannot be reached from here", f.Name))
			}
		}
	})
	return err
}

// clientTerminal is a stream that ends at the terminal of a server's client.
type clientTerminal struct{ io.Writer }

// runShared runs a client's command line on a server's exploration, whose scratch folder is given.
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
		a.told = old[len(old)-1].ID // what happened before is nothing to this client
	}
	return run(ctx, a, c.Args)
}
