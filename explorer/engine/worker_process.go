package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/search/remote"
)

// workerProcess is a worker on this machine.
type workerProcess struct {
	engine   *Engine
	settings settings // those of the job, so that scores are the same
	spec     remote.Spec
	address  remote.Address
	shared   string
	name     string
	gpu      string // of CUDA_VISIBLE_DEVICES, "" leaves it
	of       int    // how many there are
	only     bool   // there are no workers elsewhere
}

// errRefusedWorker is wrapped by the error of a worker that cannot work for the search.
var errRefusedWorker = errors.New("refused")

// WorkerRefused is the exit status of a worker that cannot work for a search.
const WorkerRefused = 4

// The variables with which a NATS server is sent a user and a password.
const (
	NATSUserVariable     = "LATHE_NATS_USER"
	NATSPasswordVariable = "LATHE_NATS_PASSWORD"
)

// args are the arguments of the command: results and memory of the worker are as in this process.
func (p workerProcess) args() []string {
	o := p.engine.options
	args := append([]string{}, o.Worker[1:]...)
	args = append(args, "--nats", p.address.URL, "--search", p.spec.Search, "--shared", p.shared, "--name", p.name, "--once", "--with-parent", "--compute", p.spec.Device)
	for _, option := range [][2]string{{"--creds", p.address.Creds}, {"--nats-ca", p.address.CA}, {"--nats-cert", p.address.Cert}, {"--nats-key", p.address.Key}} {
		if option[1] != "" {
			args = append(args, option[:]...)
		}
	}
	if strings.HasPrefix(o.Compute, "xla:") {
		args = append(args, "--compute", o.Compute)
	}
	if p.spec.Device != "cuda" {
		if free := DefaultWeights(); o.Weights == 0 && free > 0 {
			args = append(args, "--weights", strconv.FormatInt(max(1, free/int64(p.of)), 10))
		}
	}
	if p.of > 1 && p.gpu == "" { // llama.cpp's threads wait busily for each other
		args = append(args, "--threads", strconv.Itoa(max(1, runtime.NumCPU()/p.of)))
	}
	args = append(args, "--compute-type", p.settings.weights(), "--gpu", infer.FormatGPU(int(p.engine.layers.Load())))
	if p.settings.atOnce > 0 {
		args = append(args, "--at-once", strconv.Itoa(p.settings.atOnce))
	}
	for _, option := range [][2]string{{"--linear-algebra", o.Algebra}, {"--engine", o.Runner}} {
		if option[1] != "" {
			args = append(args, option[:]...)
		}
	}
	if o.Weights > 0 {
		args = append(args, "--weights", strconv.FormatInt(o.Weights, 10))
	}
	if o.Spill > 0 {
		args = append(args, "--spill", strconv.FormatInt(o.Spill, 10))
	}
	return args
}

// run runs the worker until it ends or ctx does. It ends too when this process does, with its standard input.
func (p workerProcess) run(ctx context.Context) error {
	o := p.engine.options
	cmd := exec.CommandContext(ctx, o.Worker[0], p.args()...)
	cmd.Env = append(os.Environ(), NATSUserVariable+"="+p.address.User, NATSPasswordVariable+"="+p.address.Password)
	if p.gpu != "" {
		cmd.Env = append(cmd.Env, "CUDA_VISIBLE_DEVICES="+p.gpu)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer func() { _ = stdin.Close() }()
	words := &lastLines{}
	cmd.Stderr, cmd.Stdout = words, io.Discard
	cmd.Cancel = func() error { return stdin.Close() } // which ends it
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == WorkerRefused:
		return fmt.Errorf("%w: %s", errRefusedWorker, words.last())
	}
	if last := words.last(); last != "" {
		return fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// maxWords bounds what is kept of what a worker prints.
const maxWords = 16 << 10

// lastLines keeps the end of what is written to it.
type lastLines struct{ data []byte }

// Write implements [io.Writer].
func (l *lastLines) Write(b []byte) (int, error) {
	l.data = append(l.data, b...)
	if len(l.data) > maxWords {
		l.data = bytes.Clone(l.data[len(l.data)-maxWords:])
	}
	return len(b), nil
}

// last returns the last line.
func (l *lastLines) last() string {
	lines := strings.Split(strings.TrimSpace(string(l.data)), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "lathe: ")
}
