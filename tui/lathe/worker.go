package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/search/remote"
)

// workerResult is what `worker --json` writes at its end.
type workerResult struct {
	Worker   string `json:"worker"`
	Searches int    `json:"searches"`
	Scored   int    `json:"scored"`
	Failed   int    `json:"failed"`
}

func (a *app) workerCommand() *cobra.Command {
	var (
		r          engine.WorkRequest
		withParent bool
	)
	cmd := &cobra.Command{
		Use:   "worker [MODEL...]",
		Short: "Compute for searches and other commands of other processes, through a NATS server",
		Long: "Takes work from commands that run with --nats and the same server, does it on the device of this machine and sends the results\n" +
			"back, until it is interrupted or drained: levels, sensitivities and candidates of `search`, layers of `statistics`, subnets of\n" +
			"`eval`, `zeroshot` and `compare`. The model, the levels and the text come from files named here, from a shared folder or through\n" +
			"the server; their hashes are checked. With MODEL it works with these models only. It refuses commands of another version, on\n" +
			"another kind of device, with other content or, if results depend on them, with another --compute-type, linear algebra or engine.\n\n" +
			"$" + engine.NATSUserVariable + " and $" + engine.NATSPasswordVariable + " are the user and the password for servers that have them.",
		Example: "  lathe worker --nats tls://nats.example.org:4222 --creds lathe.creds\n" +
			"  lathe worker --nats nats://10.0.0.5:4222 --creds lathe.creds --shared /mnt/models --once",
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Machines.NATS == "" {
				return usage(errors.New("--nats URL is missing"))
			}
			if err := a.address(r.Machines).Check(); err != nil {
				return usage(err)
			}
			for _, model := range args {
				path, err := a.local(cmd.Context(), model)
				if err != nil {
					return err
				}
				r.Models = append(r.Models, path)
			}
			if err := infer.ValidateThreads(r.Threads); err != nil {
				return usage(fmt.Errorf("--threads: %w", err))
			}
			if r.Files == "" {
				var err error
				if r.Files, err = a.inCache("worker"); err != nil {
					return err
				}
			}
			ctx := cmd.Context()
			if withParent {
				var cancel func()
				ctx, cancel = untilEnd(ctx, a.stdin)
				defer cancel()
			}
			var mu sync.Mutex
			r.Log = func(text string) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(a.stderr, "lathe: %s\n", text)
			}
			done, err := a.work(ctx, a.compute, r)
			if err != nil {
				return err
			}
			result := workerResult{done.Worker, done.Searches, done.Scored, done.Failed}
			return a.result(result, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s done for %s", result.Worker, format.Counted(result.Scored, "task"), format.Counted(result.Searches, "command"))
				if result.Failed > 0 {
					fmt.Fprintf(w, ", %d could not be done", result.Failed)
				}
				fmt.Fprintln(w)
			})
		},
	}
	flags := cmd.Flags()
	natsFlags(flags, &r.Machines)
	flags.StringVar(&r.Machines.Shared, "shared", "", "folder for the files of a command, if this machine can access it too")
	flags.StringVar(&r.Name, "name", "", "name of the worker: letters, digits, - and _ (default: host and process)")
	flags.StringVar(&r.Files, "files", "", "folder for files that come through the server (default: worker in the cache)")
	flags.StringVar(&r.Search, "search", "", "identity of the only search or other command to work for")
	flags.BoolVar(&r.Once, "once", false, "end with the first command that it works for, with status 4 if that is refused")
	flags.IntVar(&r.Threads, "threads", 0, "processor threads of models in llama.cpp (default: one for each core)")
	flags.BoolVar(&withParent, "with-parent", false, "end when standard input does")
	if err := flags.MarkHidden("with-parent"); err != nil {
		panic(err) // the flag exists
	}
	return cmd
}

// natsAddresses describes the value of --nats.
const natsAddresses = "nats://HOST:PORT or tls://HOST:PORT, several separated by commas"

// natsFlags adds the flags of a NATS server.
func natsFlags(flags *pflag.FlagSet, m *explorer.Machines) {
	flags.StringVar(&m.NATS, "nats", "", "server that runs NATS with JetStream: "+natsAddresses)
	flags.StringVar(&m.Creds, "creds", "", "credentials file for the NATS server")
	flags.StringVar(&m.CA, "nats-ca", "", "file with the certificates to check that of the NATS server with (default: those of the system)")
	flags.StringVar(&m.Cert, "nats-cert", "", "file with a certificate for the NATS server, with --nats-key")
	flags.StringVar(&m.Key, "nats-key", "", "file with the key of --nats-cert")
}

// piecesFlags adds the flags of where pieces of work are done, what being a verb with its object.
func piecesFlags(flags *pflag.FlagSet, m *explorer.Machines, what string) {
	flags.Var(&whole{&m.Workers, explorer.WorkersRange()}, "workers", "number of worker processes on this machine that "+what+", each on a GPU of its own if there are GPUs (default: none, this process does it)")
	natsFlags(flags, m)
	flags.Lookup("nats").Usage = "server that runs NATS with JetStream, through which workers (`lathe worker`, on any machine) " + what + ": " + natsAddresses
	flags.StringVar(&m.Shared, "shared", "", "folder, which workers on other machines can access too, for the files that they need (default: files are sent through the server)")
}

// machinesFlags adds the flags of where a search has its work done.
func machinesFlags(flags *pflag.FlagSet, m *explorer.Machines) {
	piecesFlags(flags, m, "make levels and score candidates")
	flags.BoolVar(&m.Async, "async", false, "do not wait for candidates that take much longer than others; the seed then does not determine the result")
}

// namesMachine reports whether a flag names a file or a server that the clients of a server may not use.
func namesMachine(flag string) bool {
	return slices.Contains([]string{"nats", "creds", "nats-ca", "nats-cert", "nats-key", "shared"}, flag)
}

// address is that of the NATS server of settings, with the user of the environment.
func (a *app) address(m explorer.Machines) remote.Address {
	return remote.Address{URL: m.NATS, Creds: m.Creds, CA: m.CA, Cert: m.Cert, Key: m.Key, User: a.getenv(engine.NATSUserVariable), Password: a.getenv(engine.NATSPasswordVariable)}
}

// buildVersion identifies the program to workers: its version and commit or, where it was built from other files, the hash of its
// file.
func buildVersion() string {
	v := version()
	if commit, modified := builtAt(); commit != "" && !modified {
		return v + " " + commit
	}
	path, err := os.Executable()
	if err != nil {
		return v
	}
	hash, _, err := durable.HashFile(context.Background(), path)
	if err != nil {
		return v
	}
	return strings.Join([]string{v, hash[:12]}, " ")
}

// workerProgram is the command that starts a worker.
func workerProgram() []string {
	path, err := os.Executable()
	if err != nil {
		return nil // a search with workers reports that there is none
	}
	return []string{path, "worker"}
}

// untilEnd returns a context that ends when a stream does.
func untilEnd(ctx context.Context, in io.Reader) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in) // its error is an end too
		cancel()
	}()
	return ctx, cancel
}
