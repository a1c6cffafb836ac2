package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui"
	"github.com/lathe-llm/lathe/tui/sshserver"
)

// serveFlags are the flags of `serve`.
type serveFlags struct {
	listen, keys, host, audit string
	sessions                  int
	idle                      time.Duration
}

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [MODEL]",
		Short: "Share the explorer over SSH",
		Long: "Opens the workspace of MODEL and lets holders of keys look at it and work on it together: `ssh -p 2222 host` opens the\n" +
			"explorer, `ssh -p 2222 host status --json` runs a command. Without an authorized_keys file it listens on loopback only,\n" +
			"for the keys of the user who started it. Roles are options in that file: lathe-role=\"viewer\", lathe-role=\"editor\" or lathe-role=\"owner\".\n" +
			"It ends on an interrupt or SIGTERM, within ten seconds, and a search goes on from its checkpoint the next time.",
		Example: "  lathe serve model.gguf\n  lathe serve model.gguf --listen :2222 --authorized-keys ~/team_keys --audit audit.jsonl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), model, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:2222", "address to listen on")
	flags.StringVar(&f.keys, "authorized-keys", "", "file of the keys that may enter; needed to listen beyond loopback")
	flags.StringVar(&f.host, "host-key", "", "file of the server's own key, made where it is not there (default: beside the workspaces)")
	flags.StringVar(&f.audit, "audit", "", "file that says who did what when, a JSON object a line")
	flags.IntVar(&f.sessions, "max-sessions", sshserver.DefaultLimits().Sessions, "sessions open at once")
	flags.DurationVar(&f.idle, "idle", sshserver.DefaultLimits().Idle, "end a session without input after this time, with a warning before")
	return cmd
}

func (a *app) serve(ctx context.Context, model string, f serveFlags) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	o := sshserver.Options{
		AuthorizedKeys: f.keys, HostKey: f.host, Log: log, DefaultRole: explorer.RoleViewer, Commands: runShared,
		Limits: sshserver.Limits{Sessions: f.sessions, Idle: f.idle},
	}
	if o.HostKey == "" {
		o.HostKey = filepath.Join(filepath.Dir(a.workspaces()), "host_key")
		if err := os.MkdirAll(filepath.Dir(o.HostKey), 0o700); err != nil {
			return err
		}
	}
	if o.AuthorizedKeys == "" {
		if o.OwnKeys, err = sshserver.UserKeys(); err != nil {
			return err
		}
	}
	if f.audit != "" {
		audit, err := sshserver.OpenAudit(f.audit)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, audit.Close()) }()
		o.Audit = audit
	}
	return a.with(ctx, model, orReadOnly, func(e exploration) error {
		if w := e.Snapshot().Workspace; w.ReadOnly {
			return fmt.Errorf("workspace %s is %s: %w", w.Path, w.Holder, explorer.ErrReadOnly)
		}
		a.welcome(ctx, e)
		o.Exploration = e
		panes := tui.NewPanes()
		o.Program = func(ctx context.Context, s *sshserver.Session) (tea.Model, []tea.ProgramOption) {
			options := tui.Options{Actor: s.Actor, Environ: s.Environ, Pace: s.Pace, Panes: panes, Hosted: true}
			return tui.New(ctx, s.Exploration, options), tui.ProgramOptions(ctx, options)
		}
		server, err := sshserver.New(o)
		if err != nil {
			return usage(err)
		}
		log.Info("serving", "model", model, "address", f.listen, "host key", server.Fingerprint())
		if err := server.ListenAndServe(ctx, f.listen); err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
}
