package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer"
)

// A process that holds a workspace runs the commands of other processes on it, by a socket in a folder that only its user can
// enter. A request is a JSON line, the answer JSON lines until one with a status.
const (
	controlFolder  = "control"
	controlSocket  = "sock"
	maxSocketPath  = 100     // bytes; systems allow 104 or more
	maxControlLine = 1 << 20 // bytes of a request
)

// controlRequest is a command line, without the program's name.
type controlRequest struct {
	Args     []string `json:"args"`
	Terminal bool     `json:"terminal"` // standard error is a terminal that understands escape sequences
	// Machine has the flags that were given for what computes, by their names, besides those in Args. The process must run with equal
	// ones.
	Machine map[string]string `json:"machine,omitempty"`
}

// controlFrame is a piece of the answer.
type controlFrame struct {
	Out    []byte `json:"out,omitempty"`
	Err    []byte `json:"err,omitempty"`
	Status *int   `json:"status,omitempty"`
}

// forwarded is the status of a command that another process has run; its messages are written already.
type forwarded struct{ status int }

func (f forwarded) Error() string { return fmt.Sprintf("status %d", f.status) }

// held is the error of a workspace that another process holds.
type held struct {
	error
	workspace string
}

func (h held) Unwrap() error { return h.error }

func controlPath(workspace string) (string, bool) {
	path, err := filepath.Abs(filepath.Join(workspace, controlFolder, controlSocket))
	return path, err == nil && workspace != "" && len(path) <= maxSocketPath
}

// serveControl runs commands of other processes on an exploration until stop is called, which waits for those that run. Where
// there can be no socket, others are told who holds the workspace.
func (a *app) serveControl(ctx context.Context, e *explorer.Exploration) (stop func()) {
	w := e.Snapshot().Workspace
	path, ok := controlPath(w.Path)
	if !ok || w.ReadOnly {
		return func() {}
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return func() {}
	}
	_ = os.Remove(path) // of a process that was killed; the lock is ours
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return func() {}
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { a.control(ctx, conn, e) })
		}
	})
	return func() {
		_ = listener.Close() // which removes the socket
		running.Wait()
	}
}

// control runs one command. A client that closes its end cancels it.
func (a *app) control(ctx context.Context, conn net.Conn, e *explorer.Exploration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(io.LimitReader(conn, maxControlLine))
	line, err := in.ReadBytes('\n')
	var r controlRequest
	if err != nil || json.Unmarshal(line, &r) != nil {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // ends with the connection
		cancel()
	}()
	var mu sync.Mutex
	send := func(f controlFrame) error {
		mu.Lock()
		defer mu.Unlock()
		return json.NewEncoder(conn).Encode(f)
	}
	out := controlWriter(func(b []byte) error { return send(controlFrame{Out: b}) })
	words := controlWriter(func(b []byte) error { return send(controlFrame{Err: b}) })
	client := &app{stdin: strings.NewReader(""), stdout: out, stderr: words, getenv: a.getenv, shared: e, who: a.actor(), sameUser: true}
	if r.Terminal {
		client.stderr = clientTerminal{words}
	}
	if old := e.Snapshot().Messages; len(old) > 0 {
		client.lastMessage = old[len(old)-1].ID
	}
	status := exitHeld
	if err := a.sameMachine(r.Machine); err != nil {
		fmt.Fprintf(client.stderr, "lathe: %s\n", err)
	} else {
		status = run(ctx, client, r.Args)
	}
	_ = send(controlFrame{Status: &status})
}

// controlWriter sends what is written.
type controlWriter func([]byte) error

func (w controlWriter) Write(b []byte) (int, error) {
	if err := w(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// forward runs the command of this process on the exploration of the process that holds a workspace; done is false if that
// process takes no commands, or not this one.
func (a *app) forward(ctx context.Context, workspace string, machine map[string]string) (done bool, err error) {
	path, ok := controlPath(workspace)
	if !ok || a.command == nil || sharedCommand(a.command) == nil {
		return false, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return false, nil
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	args, err := a.commandLine()
	if err != nil {
		return true, err
	}
	if err := json.NewEncoder(conn).Encode(controlRequest{Args: args, Terminal: a.animates(), Machine: machine}); err != nil {
		return true, err
	}
	for frames := json.NewDecoder(conn); ; {
		var f controlFrame
		if err := frames.Decode(&f); err != nil {
			if ctx.Err() != nil {
				return true, ctx.Err()
			}
			return true, fmt.Errorf("the process that holds the workspace ended: %w", err)
		}
		if _, err := a.stdout.Write(f.Out); err != nil {
			return true, err
		}
		if _, err := a.stderr.Write(f.Err); err != nil {
			return true, err
		}
		switch {
		case f.Status == nil:
		case *f.Status == exitOK:
			return true, nil
		default:
			return true, forwarded{*f.Status}
		}
	}
}

// machine returns the values of the flags for what this process computes with, by their names.
func (a *app) machine() map[string]string {
	return map[string]string{
		"compute": cmp.Or(a.compute, "auto"), "linear-algebra": cmp.Or(a.algebra, engine.AlgebraAuto),
		"compute-type": cmp.Or(a.computeType, explorer.Floats), "at-once": strconv.Itoa(a.atOnce), "gpu": cmp.Or(a.gpu, infer.GPUAuto), "engine": cmp.Or(a.engine, "llama.cpp"),
		"spill": cmp.Or((*byteSize)(&a.spill).String(), "the default"), "weights": cmp.Or((*byteSize)(&a.weights).String(), "the default"),
	}
}

// machineFlags returns those that were given, but for flags that the command has at a server too.
func (a *app) machineFlags() map[string]string {
	given := make(map[string]string)
	shared := sharedCommand(a.command)
	for name, value := range a.machine() {
		own := shared != nil && shared.Flags().Lookup(name) != nil && name != "engine" // eval and compare have another one
		if a.command.Root().PersistentFlags().Changed(name) && !own {
			given[name] = value
		}
	}
	return given
}

// sameMachine returns an error that names a flag by which a client asks to compute with something else than this process does.
func (a *app) sameMachine(asked map[string]string) error {
	mine := a.machine()
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if asked[name] != mine[name] {
			return fmt.Errorf("--%s %s: the workspace is held by process %d, which runs with %s: leave the flag out, or end that process", name, asked[name], os.Getpid(), mine[name])
		}
	}
	return nil
}

// sharedCommand returns the command of a server with the name of cmd, nil if it offers none.
func sharedCommand(cmd *cobra.Command) *cobra.Command {
	at := newRoot(&app{shared: (*explorer.Exploration)(nil)})
	for _, word := range strings.Fields(cmd.CommandPath())[1:] {
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
		if i < 0 {
			return nil
		}
		at = at.Commands()[i]
	}
	return at
}

// fullPaths makes the names of files absolute in PATH, or in NAME=PATH,NAME=PATH. Words that name no file stay.
func fullPaths(text string) string {
	full := func(path string) string {
		if abs, err := filepath.Abs(path); err == nil {
			if _, err := os.Stat(abs); err == nil {
				return abs
			}
		}
		return path
	}
	if whole := full(text); whole != text {
		return whole
	}
	parts := strings.Split(text, ",")
	for i, part := range parts {
		if name, path, ok := strings.Cut(part, "="); ok {
			parts[i] = name + "=" + full(path)
		} else {
			parts[i] = full(part)
		}
	}
	return strings.Join(parts, ",")
}

// commandLine returns the command with the names of files made absolute, without MODEL and what concerns this process alone.
func (a *app) commandLine() ([]string, error) {
	args := strings.Fields(a.command.CommandPath())[1:]
	own := a.arguments
	if a.modelGiven && len(own) > 0 {
		own = own[:len(own)-1]
	}
	var failed error
	shared := sharedCommand(a.command)
	a.command.Flags().Visit(func(f *pflag.Flag) {
		if f == a.command.Root().PersistentFlags().Lookup("engine") { // eval and compare have a flag of the same name
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		switch f.Name {
		case "workspace", "compute", "compute-type", "at-once", "linear-algebra", "spill", "weights":
			return
		case "gpu":
			if shared == nil || shared.Flags().Lookup(f.Name) == nil { // see machineFlags
				return
			}
		case "text", "test", "against":
			value = fullPaths(value)
		case "creds", "nats-ca", "nats-cert", "nats-key", "shared":
			full, err := filepath.Abs(value)
			failed, value = errors.Join(failed, err), full
		case "file", "output":
			if value != toStdout {
				full, err := filepath.Abs(value)
				failed, value = errors.Join(failed, err), full
			}
		}
		args = append(args, "--"+f.Name+"="+value)
	})
	return append(append(args, "--"), own...), failed
}
