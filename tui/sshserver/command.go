package sshserver

import (
	"context"
	"errors"
	"io"
	"strings"

	"charm.land/ssh"
	"github.com/anmitsu/go-shlex"
	"github.com/charmbracelet/colorprofile"

	"github.com/lathe-llm/lathe/explorer"
)

// A Command is a command line that a client wants run.
type Command struct {
	Actor explorer.Actor // the key's holder
	// Exploration gives every command in the actor's name, whatever actor it is called with, and audits it. Which files of
	// the machine the arguments may name is for whoever runs the command to say.
	Exploration Exploration
	Args        []string // split as a shell would; never empty
	Environ     []string // what the client may set of its environment
	Stdin       io.Reader
	Stdout      io.Writer
	Stderr      io.Writer
	// Terminal says that the client asked for a terminal (ssh -t): Width is its width in cells and Profile its colours.
	Terminal bool
	Width    int
	Profile  colorprofile.Profile
}

// Errors of requests that cannot be run, for the client.
var (
	errQuotes     = errors.New("the command's quotes do not match")
	errNoCommands = errors.New("this server runs no commands")
	errNoProgram  = errors.New("this server has no screens: give a command")
	errNoTerminal = errors.New("the screens need a terminal: use ssh -t, or give a command, as in: ssh HOST status")
	errNoPTY      = errors.New("your key may run commands only")
)

// run runs what a session is for, and sends its exit status.
func (s *Server) run(ssh.Handler) ssh.Handler {
	return func(sess ssh.Session) {
		ctx := sess.Context().(*channelContext)
		v := ctx.Value(visitKey).(*visit)
		_, _, terminal := sess.Pty()
		words, err := shlex.Split(sess.RawCommand(), true)
		asked := strings.TrimSpace(sess.RawCommand()) != ""
		switch {
		case err != nil || asked && len(words) == 0:
			s.fail(sess, exitUsage, errQuotes)
		case asked && s.options.Commands == nil:
			s.fail(sess, exitUsage, errNoCommands)
		case asked:
			s.leave(sess, v, s.command(sess, v, ctx.channel, words))
		case !terminal:
			s.fail(sess, exitUsage, errNoTerminal)
		case v.noPTY:
			s.fail(sess, exitUsage, errNoPTY)
		case s.options.Program == nil:
			s.fail(sess, exitUsage, errNoProgram)
		default:
			s.leave(sess, v, s.terminal(sess, v, ctx.channel))
		}
	}
}

// leave ends a session that ran; what its client does from now on is no reason for its end.
func (s *Server) leave(sess ssh.Session, v *visit, status int) {
	v.end(nil)
	s.exit(sess, status)
}

// command runs a command line and returns its exit status.
func (s *Server) command(sess ssh.Session, v *visit, c *channel, words []string) int {
	ctx, cancel := context.WithDeadlineCause(c.ctx, v.connection.opened.Add(s.limits.Longest), errLongest)
	defer cancel()
	pty, _, terminal := sess.Pty()
	environ := sess.Environ()
	profile := colorprofile.NoTTY
	var stdin io.Reader = sess
	if terminal {
		environ = append(environ, "TERM="+pty.Term)
		profile = colorprofile.Env(environ)
		stdin = &typed{sess, cancel}
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-v.ending:
				cancel()
			case name := <-c.signals:
				switch ssh.Signal(name) {
				case ssh.SIGINT, ssh.SIGTERM, ssh.SIGHUP, ssh.SIGKILL, ssh.SIGQUIT:
					cancel()
				}
			}
		}
	}()
	stderr := s.output(sess.Stderr(), v)
	status := s.options.Commands(ctx, Command{
		Actor: v.actor, Exploration: newDesk(s, v, true), Args: words, Environ: environ, Stdin: stdin,
		Stdout: s.output(sess, v), Stderr: stderr,
		Terminal: terminal, Width: c.window().width, Profile: profile,
	})
	if errors.Is(context.Cause(ctx), errLongest) {
		v.end(errLongest)
	}
	if status != 0 {
		select {
		case <-s.stopping:
			v.end(errStopped)
		default:
		}
	}
	if why := v.reason(); why != nil && !errors.Is(why, errStalled) {
		_, _ = io.WriteString(stderr, "lathe: "+why.Error()+"\n")
		if status == 0 {
			status = exitEnded
		}
	}
	if status < 0 || status > 255 {
		status = exitEnded
	}
	return status
}

// typed is a terminal's input for a command: there is no kernel in between to make a line of it or to act on its control
// characters.
type typed struct {
	r         io.Reader
	interrupt func()
}

// Read reads with carriage returns as newlines; ctrl+c interrupts the command and ctrl+d ends the input.
func (t *typed) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	for i, x := range b[:n] {
		switch x {
		case '\r':
			b[i] = '\n'
		case 0x03:
			t.interrupt()
			return i, io.EOF
		case 0x04:
			return i, io.EOF
		}
	}
	return n, err
}
