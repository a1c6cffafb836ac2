package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/tui"
	"github.com/lathe-llm/lathe/tui/sshserver"
)

// serveFlags are the flags of `serve`.
type serveFlags struct {
	listen, keys, host, audit string
	sessions                  int
	idle                      time.Duration
	resume                    bool
}

// stopTime is how long the server may take to stop.
const stopTime = 10 * time.Second

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [MODEL]",
		Short: "Share the explorer over SSH",
		Long: "Opens the workspace of MODEL for everybody with an allowed key: `ssh -p 2222 host` opens the explorer,\n" +
			"`ssh -p 2222 host status --json` runs a command. Without an authorized_keys file it listens on loopback only, for the\n" +
			"keys of the user who started it. Options in that file set roles: lathe-role=\"viewer\", lathe-role=\"editor\" or\n" +
			"lathe-role=\"owner\". It stops on an interrupt or SIGTERM, within ten seconds. A search that was running then, or when the\n" +
			"server was killed, resumes from its checkpoint when the server is started again.",
		Example: "  lathe serve model.gguf\n  lathe serve model.gguf --listen :2222 --authorized-keys ~/team_keys --audit audit.jsonl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if err := checkAddress(f.listen); err != nil {
				return err
			}
			return a.serve(cmd.Context(), model, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:2222", "address to listen on")
	flags.StringVar(&f.keys, "authorized-keys", "", "file of the allowed keys; required to listen beyond loopback")
	flags.StringVar(&f.host, "host-key", "", "file of the server's own key, created if missing (default: beside the workspaces)")
	flags.StringVar(&f.audit, "audit", "", "audit log: who did what and when, one JSON object per line")
	flags.IntVar(&f.sessions, "max-sessions", sshserver.DefaultLimits().Sessions, "limit of open sessions")
	flags.DurationVar(&f.idle, "idle", sshserver.DefaultLimits().Idle, "end a session after this time without input, with a warning before")
	flags.BoolVar(&f.resume, "resume", true, "resume a search that the end of the last server interrupted")
	return cmd
}

// serverOptions returns the options that the flags set, except for the audit log.
func (a *app) serverOptions(f serveFlags, log *slog.Logger) (o sshserver.Options, err error) {
	o = sshserver.Options{
		AuthorizedKeys: f.keys, HostKey: f.host, Log: log, DefaultRole: explorer.RoleViewer,
		Limits: sshserver.Limits{Sessions: f.sessions, Idle: f.idle},
	}
	if o.HostKey == "" {
		workspaces, err := a.workspaces()
		if err != nil {
			return o, err
		}
		o.HostKey = filepath.Join(filepath.Dir(workspaces), "host_key")
		if err := durable.MkdirAll(filepath.Dir(o.HostKey), 0o700); err != nil {
			if isUnwritable(err, workspaces) {
				err = unwritable(err, workspacesVariable)
			}
			return o, output{err}
		}
	}
	if o.AuthorizedKeys == "" {
		o.OwnKeys, err = sshserver.UserKeys()
	}
	return o, err
}

func (a *app) serve(ctx context.Context, model string, f serveFlags) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	o, err := a.serverOptions(f, log)
	if err != nil {
		return err
	}
	if f.audit != "" {
		audit, failed := sshserver.OpenAudit(f.audit)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, audit.Close()) }()
		o.Audit = audit
	}
	defer forceExitAfter(ctx, stopTime, log)()
	e, err := a.openExploration(ctx, model, orReadOnly)
	if err != nil {
		return err
	}
	finish := sync.OnceValue(e.Close)
	defer func() { err = errors.Join(err, finish()) }()
	if w := e.Snapshot().Workspace; w.ReadOnly {
		return fmt.Errorf("workspace %s is %s: %w", w.Path, w.Holder, explorer.ErrReadOnly)
	}
	defer a.serveControl(ctx, e)()
	o.Exploration = e
	o.Commands = func(ctx context.Context, c sshserver.Command) int { return runShared(ctx, c, e.Scratch()) }
	panes := tui.NewPanes()
	o.Program = func(ctx context.Context, s *sshserver.Session) (tea.Model, []tea.ProgramOption) {
		options := viewerOptions(s, panes)
		return tui.New(ctx, s.Exploration, options), tui.ProgramOptions(ctx, options)
	}
	server, err := sshserver.New(o)
	if err != nil {
		return usage(err)
	}
	a.gatherInBackground(ctx, e)
	if u := e.Snapshot().Unfinished; u != nil && f.resume {
		log.Info("resuming the interrupted search", "target", explorer.TargetName(u.Search.Target), "author", u.Author)
		if err := e.ResumeSearch(ctx); err != nil {
			log.Error("the interrupted search cannot be resumed", "err", err)
		}
	}
	// Stop computing at once, not only when the last session has ended.
	go func() {
		<-server.Stopping()
		_ = finish() // the deferred call waits for it and returns its error
	}()
	log.Info("serving", "model", model, "address", f.listen, "host key", server.Fingerprint())
	if err := server.ListenAndServe(ctx, f.listen); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// viewerOptions are those of a session's terminal interface: its own colours, theme and characters, and panes shared with
// the other sessions. Variables with invalid values become warnings on the screen, since the client's shell shows nothing.
func viewerOptions(s *sshserver.Session, panes *tui.Panes) tui.Options {
	o := tui.Options{Actor: s.Actor, Environ: s.Environ, Pace: s.Pace, Panes: panes, Hosted: true}
	o.Folder, _ = os.Getwd() // "" where it is gone
	if err := o.ReadEnvironment(variable(s.Environ)); err != nil {
		o.Warnings = strings.Split(format.Error(err), "\n")
	}
	return o
}

// variable returns a function that looks variables up in an environment of KEY=VALUE strings, as os.Getenv does.
func variable(environ []string) func(key string) string {
	return func(key string) string {
		for _, e := range slices.Backward(environ) { // the last one counts, as in os/exec
			if value, ok := strings.CutPrefix(e, key+"="); ok {
				return value
			}
		}
		return ""
	}
}

// forceExitAfter ends the process if it still runs d after ctx has ended, because some work cannot be cancelled. That loses
// only what was computed since the last checkpoint: files on the disk are complete at any moment. Calling release prevents it.
func forceExitAfter(ctx context.Context, d time.Duration, log *slog.Logger) (release func()) {
	done, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-done.Done():
		case <-timer.C:
			log.Warn("exiting while work that cannot be cancelled still runs; it resumes from its last checkpoint")
			os.Exit(exitFailure)
		}
	})
	return func() {
		cancel()
		stop()
	}
}
