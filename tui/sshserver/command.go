package sshserver

import (
	"context"
	"errors"
	"io"
	"strings"

	"charm.land/ssh"
	"github.com/anmitsu/go-shlex"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
)

// A Command is a command line of a client.
type Command struct {
	Actor explorer.Actor // the principal of the key
	// Exploration runs all commands as Actor, whatever actor they are called with, and audits them. It allows commands that
	// name files of the server's machine: Options.Commands must check the arguments.
	Exploration Exploration
	Args        []string // split as a shell would; never empty
	Environ     []string // the client's variables that may be set
	Stdin       io.Reader
	Stdout      io.Writer
	Stderr      io.Writer
	Terminal    bool // the client requested a terminal (ssh -t)
}

// Errors of requests that cannot be run, for the client.
var (
	errQuotes     = errors.New("unmatched quotes in the command")
	errNoCommands = errors.New("this server does not run commands")
	errNoProgram  = errors.New("this server runs commands only: give a command")
	errNoTerminal = errors.New("the explorer needs a terminal: use ssh -t, or give a command, such as ssh HOST status")
	errNoPTY      = errors.New("your key may run commands only")
)

// run is the last middleware: it runs the session's command or program and sends the exit status.
func (s *Server) run(ssh.Handler) ssh.Handler {
	return func(sess ssh.Session) {
		ctx := sess.Context().(*channelContext)
		session := ctx.Value(sessionKey).(*session)
		_, _, terminal := sess.Pty()
		words, err := shlex.Split(sess.RawCommand(), true)
		given := strings.TrimSpace(sess.RawCommand()) != ""
		switch {
		case err != nil || given && len(words) == 0:
			s.fail(sess, exitUsage, errQuotes)
		case given && s.options.Commands == nil:
			s.fail(sess, exitUsage, errNoCommands)
		case given:
			s.leave(sess, session, s.command(sess, session, ctx.channel, words))
		case !terminal:
			s.fail(sess, exitUsage, errNoTerminal)
		case session.noPTY:
			s.fail(sess, exitUsage, errNoPTY)
		case s.options.Program == nil:
			s.fail(sess, exitUsage, errNoProgram)
		default:
			s.leave(sess, session, s.terminal(sess, session, ctx.channel))
		}
	}
}

// leave ends a session that ran to its end; later events of its client are not reasons for its end.
func (s *Server) leave(sess ssh.Session, session *session, status int) {
	session.end(nil)
	s.exit(sess, status)
}

// command runs a command line and returns its exit status.
func (s *Server) command(sess ssh.Session, session *session, c *channel, words []string) int {
	ctx, cancel := context.WithDeadlineCause(c.ctx, session.connection.opened.Add(s.limits.Longest), errLongest)
	defer cancel()
	pty, _, terminal := sess.Pty()
	environ := sess.Environ()
	var stdin io.Reader = sess
	if terminal {
		environ = append(environ, "TERM="+pty.Term)
		stdin = &terminalInput{sess, cancel}
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-session.ending:
				cancel()
			case name := <-c.signals:
				switch ssh.Signal(name) {
				case ssh.SIGINT, ssh.SIGTERM, ssh.SIGHUP, ssh.SIGKILL, ssh.SIGQUIT:
					cancel()
				default: // nothing for the others
				}
			}
		}
	}()
	stderr := s.output(sess.Stderr(), session)
	status := s.options.Commands(ctx, Command{
		Actor: session.actor, Exploration: newSessionView(s, session, true), Args: words, Environ: environ, Stdin: stdin,
		Stdout: s.output(sess, session), Stderr: stderr, Terminal: terminal,
	})
	if errors.Is(context.Cause(ctx), errLongest) {
		session.end(errLongest)
	}
	if status != 0 {
		select {
		case <-s.stopping:
			session.end(errStopped)
		default:
		}
	}
	if reason := session.reason(); reason != nil && !errors.Is(reason, errStalled) {
		_, _ = io.WriteString(stderr, "lathe: "+format.Error(reason)+"\n")
		if status == 0 {
			status = exitEnded
		}
	}
	if status < 0 || status > 255 {
		status = exitEnded
	}
	return status
}

// terminalInput is the input of a command from a terminal. There is no kernel in between that handles control characters.
type terminalInput struct {
	r         io.Reader
	interrupt func()
}

// Read replaces carriage returns by newlines; ctrl+c interrupts the command and ctrl+d ends the input.
func (t *terminalInput) Read(b []byte) (int, error) {
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
