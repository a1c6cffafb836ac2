//go:build unix

package main

import (
	"errors"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/tui/tuitest/terminal"
)

// looks are environments of a terminal with 256 colours and what the interface may then send.
var looks = []struct {
	name         string
	environ      []string
	needs, lacks string // patterns of what is sent
}{
	{"terminal", nil, `38;5;`, `38;2;`},
	{"ascii", []string{"LATHE_ASCII=1"}, `38;5;`, `[^\x00-\x7f]`},
	{"no colour", []string{"LATHE_COLOR=none"}, `[^\x00-\x7f]`, `\x1b\[[\d;]*[34]8;[\d;]*m|\x1b\[(?:\d;)*[39][0-7]m`},
	{"sixteen colours", []string{"LATHE_COLOR=16"}, `\x1b\[[\d;]*[39][0-7][;m]`, `[34]8;[25];`},
	{"dark", []string{"LATHE_COLOR=true", "LATHE_THEME=dark"}, `38;2;242;166;90`, `38;2;168;90;0`},
	{"light", []string{"LATHE_COLOR=true", "LATHE_THEME=light"}, `38;2;168;90;0`, `38;2;242;166;90`},
	{"keys", []string{"LATHE_KEYS=[keys]\n\"search.toggle\" = \"P\"\n"}, `P starts one`, `space starts one`},
	{"wrong keys", []string{"LATHE_KEYS=[keys]\n\"search.dance\" = \"P\"\n"}, `there is no action "search.dance"`, `P starts`},
	{"invalid", []string{"LATHE_THEME=dusk"}, `LATHE_THEME: "dusk" is not auto, dark or light`, `38;2;`},
}

func checkLook(t *testing.T, sent, needs, lacks string) {
	t.Helper()
	if !regexp.MustCompile(needs).MatchString(sent) {
		t.Errorf("the terminal was not sent %s:\n%.2000q", needs, sent)
	}
	if odd := regexp.MustCompile(lacks).FindString(sent); odd != "" {
		t.Errorf("the terminal was sent %q:\n%.2000q", odd, sent)
	}
}

// TestSessionsHaveTheirOwnLook opens all looks on one server at once.
func TestSessionsHaveTheirOwnLook(t *testing.T) {
	m := newTeam(t)
	s := m.serve("workspace")
	s.until("statistics", func(r statusResult) bool { return len(r.Jobs) == 0 })
	open := make([]watched, len(looks))
	for i, look := range looks {
		open[i] = s.watch([]string{"vera", "ed", "olga"}[i%3], "Library", look.environ...)
	}
	for i, look := range looks {
		t.Run(look.name, func(t *testing.T) {
			if _, err := io.WriteString(open[i].keys, "q"); err != nil {
				t.Fatal(err)
			}
			checkLook(t, <-open[i].sent, look.needs, look.lacks)
		})
	}
}

// TestProgramHasTheLookOfItsEnvironment opens the program on a terminal of this machine.
func TestProgramHasTheLookOfItsEnvironment(t *testing.T) {
	m := newTeam(t)
	open := func(t *testing.T, environ []string, args ...string) (sent string, err error) {
		var all strings.Builder
		term, err := terminal.New(120, 40, func(_ time.Time, b []byte) { all.Write(b) })
		if err != nil {
			t.Fatal(err)
		}
		term.Patience = patience
		cmd := exec.CommandContext(t.Context(), "lathe", append(args, m.model, "--workspace", t.TempDir())...)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = m.dir, term.TTY, term.TTY, term.TTY
		cmd.Env = append(append(m.env, "COLORTERM="), environ...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		left := false
		waiting := term.Wait("the screens, or the program's end", func(screen string) bool {
			select {
			case err = <-ended:
				left = true
			default:
			}
			return left || strings.Contains(screen, "Library")
		})
		if waiting != nil {
			t.Fatal(waiting)
		}
		if !left {
			if err := term.Press("q"); err != nil {
				t.Fatal(err)
			}
			err = <-ended
		}
		if err := term.Close(); err != nil {
			t.Fatal(err)
		}
		return all.String(), err
	}
	for _, look := range looks {
		if look.name == "invalid" {
			continue
		}
		t.Run(look.name, func(t *testing.T) {
			sent, err := open(t, look.environ)
			if err != nil {
				t.Error(err)
			}
			checkLook(t, sent, look.needs, look.lacks)
		})
	}
	t.Run("options override variables", func(t *testing.T) {
		sent, err := open(t, []string{"LATHE_COLOR=none", "LATHE_ASCII=1"}, "--color", "16", "--ascii=false")
		if err != nil {
			t.Error(err)
		}
		checkLook(t, sent, `\x1b\[[\d;]*[39][0-7][;m]`, `[34]8;[25];`)
		checkLook(t, sent, `[^\x00-\x7f]`, `no such text`)
	})
	t.Run("invalid value", func(t *testing.T) {
		sent, err := open(t, []string{"LATHE_THEME=dusk"})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitUsage {
			t.Errorf("ended with %v", err)
		}
		checkLook(t, sent, `LATHE_THEME: "dusk" is not auto, dark or light`, "Library")
	})
}
