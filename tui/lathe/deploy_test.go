//go:build unix

package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The examples of how to run a server for a team.
const (
	unitFile  = "../../tui/sshserver/deploy/lathe.service"
	imageFile = "../../tui/sshserver/deploy/Containerfile"
)

// deployed are the command lines of the examples, without the program.
func deployed(t *testing.T) map[string][]string {
	t.Helper()
	lines := func(path string) []string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.ReplaceAll(string(text), "\\\n", " "), "\n")
	}
	found := map[string][]string{}
	for _, l := range lines(unitFile) {
		if command, ok := strings.CutPrefix(l, "ExecStart=/usr/local/bin/lathe "); ok {
			found[unitFile] = strings.Fields(command)
		}
	}
	var entry, command []string
	for _, l := range lines(imageFile) {
		for name, to := range map[string]*[]string{"ENTRYPOINT ": &entry, "CMD ": &command} {
			if list, ok := strings.CutPrefix(l, name); ok {
				if err := json.Unmarshal([]byte(list), to); err != nil {
					t.Fatalf("%s: %v", l, err)
				}
			}
		}
	}
	if len(entry) == 0 || len(found[unitFile]) == 0 {
		t.Fatalf("no commands in the examples: %v, %v", found, entry)
	}
	found[imageFile] = append(entry[1:], command...)
	return found
}

func TestDeployExamplesNameExistingFlags(t *testing.T) {
	for file, args := range deployed(t) {
		root := newRoot(&app{stdout: io.Discard, stderr: io.Discard})
		cmd, rest, err := root.Find(args)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil || cmd.Name() != "serve" {
			t.Errorf("%s: lathe %s: %v", file, strings.Join(args, " "), err)
		}
		for _, flag := range []string{"listen", "authorized-keys", "host-key", "audit"} {
			if !cmd.Flags().Changed(flag) {
				t.Errorf("%s: --%s is left to its default", file, flag)
			}
		}
	}
}

func TestUnitPassesSystemd(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("lathe")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "lathe.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), "/usr/local/bin/lathe", program, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestServesFromAReadOnlyRoot runs the server under what the examples ask for, as far as that can be had without systemd
// and containers: see testdata/sandbox.sh.
func TestServesFromAReadOnlyRoot(t *testing.T) {
	sandbox := []string{"unshare", "--mount", "--ipc", "--uts"}
	if out, err := exec.CommandContext(t.Context(), sandbox[0], append(sandbox[1:], "mount", "-t", "tmpfs", "tmpfs", t.TempDir())...).CombinedOutput(); err != nil {
		t.Skipf("needs root and its own mounts: %v %s", err, out)
	}
	m := newTeam(t)
	program, err := exec.LookPath("lathe")
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/sandbox.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"root", "state"} {
		if err := os.Mkdir(m.path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	model, err := os.ReadFile(m.model)
	if err != nil {
		t.Fatal(err)
	}
	m.write(string(model), 0o644, "state", "model.gguf")
	for _, path := range []string{"state", "state/model.gguf"} {
		if err := os.Chown(m.path(path), 10001, 10001); err != nil {
			t.Fatal(err)
		}
	}
	args := deployed(t)[unitFile]
	for i, a := range args {
		if a == "0.0.0.0:2222" {
			args[i] = "127.0.0.1:0"
		}
	}
	boxed := append(sandbox, script, m.path("root"), program, m.path("state"), m.path("authorized_keys"), m.path("cache"))
	s := m.start(exec.Command(boxed[0], append(boxed[1:], args...)...), m.path("state", "host_key.pub"))
	for _, line := range []string{
		"info", "cut --ratio 0.7 --windows 4 --seq 128 --name thin", "chat -p hello --max-tokens 4", "chat --subnet thin -p hello --max-tokens 4",
		"eval --subnet thin --windows 2 --seq 128", "bench --prompt 16 --generate 2 --repeats 1", "masks set --layers 1 --mlp 0-63", "subnets export thin -o -",
		"search start --target 0.7 --budget evals=100000 --windows 4 --seq 32",
	} {
		if out, words, status := s.ssh("olga", strings.Fields(line)...); status != exitOK {
			t.Errorf("%s: status %d\n%.400s%s", line, status, out, words)
		}
	}
	sent := s.watch("vera", "Search")
	s.until("generation", func(r statusResult) bool { return r.Search != nil && r.Search.Generation >= 1 })
	if status := s.end(syscall.SIGTERM); status != exitOK {
		t.Errorf("exit status %d\n%s", status, s.log)
	}
	if all := <-sent.sent; !strings.Contains(all, "the server is stopping") {
		t.Error("the terminal does not show the reason")
	}
	if n, err := os.ReadFile(m.path("state", "audit.jsonl")); err != nil || len(n) == 0 {
		t.Errorf("the audit log: %d bytes, %v", len(n), err)
	}
}
