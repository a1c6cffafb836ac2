// Package llamaserver implements infer.Engine over llama-server, the HTTP server of an installed llama.cpp: one that the engine
// starts for each model, or one that already runs. It is for GPUs and architectures that the built-in llama.cpp does not have.
//
// Texts are split into tokens by the server; conversations are rendered by lathe's own template engine, and prompts are sent as
// token ids, so that both engines read the same tokens. llama-server computes no log-probabilities of given tokens: Score and
// Distributions run on another engine, Options.Fallback.
package llamaserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Command is the program that is started where no other is named.
const Command = "llama-server"

// Options configure an engine.
type Options struct {
	Path string // of the program; "" means Command, which is searched in PATH
	URL  string // of a server that runs, which is used instead of starting one; "" for none
	Key  string // that the server at URL asks for; "" for none

	// Fallback runs what llama-server cannot do. Closing it is up to the caller.
	Fallback infer.Engine

	// Report is called once for each model with a line about what runs on Fallback. It may be nil.
	Report func(line string)

	LogDir       string        // folder of the servers' logs; "" means the system's temporary folder
	StartTimeout time.Duration // limit of a start, loading the model included; 0 means ten minutes
	Env          []string      // added to the environment of servers
}

// Parse returns the options that the value of --engine means: llama-server, llama-server=PATH or llama-server=URL. ok is false for the
// built-in engine: "" or llama.cpp. Its error wraps infer.ErrInvalid.
func Parse(text string) (o Options, ok bool, err error) {
	name, where, named := strings.Cut(text, "=")
	switch {
	case text == "" || text == "llama.cpp":
		return o, false, nil
	case name != Command:
		return o, false, fmt.Errorf("%q: not llama.cpp, %s, %s=PATH or %s=URL: %w", text, Command, Command, Command, infer.ErrInvalid)
	case named && where == "":
		return o, false, fmt.Errorf("%q: no path or URL after =: %w", text, infer.ErrInvalid)
	case !strings.Contains(where, "://"):
		o.Path = where
		return o, true, nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return o, false, fmt.Errorf("%q: not an address such as http://127.0.0.1:8080: %w", where, infer.ErrInvalid)
	}
	o.URL = strings.TrimSuffix(where, "/")
	return o, true, nil
}

// Engine implements [infer.Engine]. New returns one.
type Engine struct {
	options Options
	models  infer.Models
}

var (
	_ infer.Engine = (*Engine)(nil)
	_ infer.Model  = (*Model)(nil)
)

// New returns an engine. It starts no process.
func New(o Options) *Engine {
	if o.StartTimeout == 0 {
		o.StartTimeout = 10 * time.Minute
	}
	return &Engine{options: o}
}

// Name implements [infer.Engine].
func (e *Engine) Name() string {
	switch {
	case e.options.URL != "":
		return Command + " at " + e.options.URL
	case e.options.Path != "":
		return Command + " (" + e.options.Path + ")"
	}
	return Command
}

// Devices implements [infer.Engine]. They are those of the fallback: llama-server lists none.
func (e *Engine) Devices(ctx context.Context) ([]infer.Device, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	return e.options.Fallback.Devices(ctx)
}

// program returns the path of the server's program.
func (e *Engine) program() (string, error) {
	name := e.options.Path
	if name == "" {
		name = Command
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w: install llama.cpp, or name the program with --engine %s=PATH", infer.ErrUnavailable, err, Command)
	}
	return path, nil
}

// Load implements [infer.Engine]. Memory is not checked before: only the server knows its devices.
func (e *Engine) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	m, err := newModel(e, o)
	if err != nil {
		return nil, fmt.Errorf("llama-server: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("llama-server: %w", err)
	}
	if err := e.models.Add(m); err != nil {
		return nil, fmt.Errorf("llama-server: %w", err)
	}
	if progress == nil {
		progress = func(float64) {}
	}
	begin := time.Now()
	progress(0)
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("llama-server: %s: %w", o.Path, err), m.Close())
	}
	progress(1)
	m.info.LoadTime = max(time.Since(begin), 1)
	return m, nil
}

func (e *Engine) open() error {
	if err := e.models.Check(); err != nil {
		return fmt.Errorf("llama-server: %w", err)
	}
	return nil
}

// Close implements [infer.Engine]. The fallback stays open.
func (e *Engine) Close() error { return e.models.Close() }
