package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/tui/lathe/internal/environ"
)

// program runs a program of TestMain in a folder, with these variables besides PATH.
func program(t *testing.T, dir string, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var out, words bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append([]string{"PATH=" + os.Getenv("PATH")}, env...), &out, &words
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), words.String(), cmd.ProcessState.ExitCode()
}

func TestHomeFromTheUserDatabase(t *testing.T) {
	u, err := user.Current()
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		t.Skip("this user has no home folder")
	}
	for _, env := range [][]string{{}, {"HOME="}, {"HOME=."}} {
		dir := t.TempDir()
		stdout, stderr, status := program(t, dir, append(env, "LATHE_CACHE="+t.TempDir()), "fake", "doctor")
		if want := filepath.Join(u.HomeDir, ".local", "share", "lathe", "workspaces"); status != 0 || stderr != "" || !strings.Contains(stdout, "workspaces: "+want+"\n") {
			t.Errorf("%q: status %d, standard error %q, want %s in\n%s", env, status, stderr, want, stdout)
		}
		if made, _ := os.ReadDir(dir); len(made) > 0 {
			t.Errorf("%q: %v was created in the current folder", env, made[0])
		}
	}
}

// TestNoLibraryConfiguration: in a container without /etc/ld.so.conf standard error has lathe's own words alone.
func TestNoLibraryConfiguration(t *testing.T) {
	if err := exec.Command("unshare", "--map-root-user", "--mount", "true").Run(); err != nil {
		t.Skipf("no mounts of its own: %v", err)
	}
	const empty = `mount -t tmpfs tmpfs /etc && exec "$@"`
	stdout, stderr, status := program(t, t.TempDir(), []string{"HOME=" + t.TempDir()}, "unshare", "--map-root-user", "--mount", "sh", "-c", empty, "sh", "lathe", "--version")
	if status != 0 || stderr != "" || !strings.HasPrefix(stdout, "lathe version") {
		t.Errorf("status %d, %q, standard error %q", status, stdout, stderr)
	}
	if _, stderr, status := program(t, t.TempDir(), []string{"HOME=" + t.TempDir()}, "unshare", "--map-root-user", "--mount", "sh", "-c", empty, "sh", "lathe", "info", "none.gguf"); status != exitInput || !strings.HasPrefix(stderr, "lathe: ") {
		t.Errorf("a missing model: status %d, standard error %q", status, stderr)
	}
}

func TestFolderVariablesAreExpanded(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.gguf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"~/w": home + "/w", "$HOME/w": home + "/w", "${HOME}/w": home + "/w", "~": home, "/$NAME/${NAME}x": "/ada/adax",
	} {
		stdout, stderr, status := program(t, dir, []string{"HOME=" + home, "NAME=ada", "LATHE_WORKSPACES=" + value}, "fake", "doctor")
		if status != 0 || !strings.Contains(stdout, "workspaces: "+want+"\n") {
			t.Errorf("%s: status %d, %s, want %s in\n%s", value, status, stderr, want, stdout)
		}
	}
	for _, value := range []string{"$NOBODY_SET_THIS/w", "~nobody-has-this-name/w"} {
		_, stderr, status := program(t, dir, []string{"HOME=" + home, "LATHE_WORKSPACES=" + value}, "fake", "masks", "set", "model.gguf", "--layers", "0", "--mlp", "0-3")
		if status != exitUsage || !strings.Contains(stderr, "LATHE_WORKSPACES="+value) {
			t.Errorf("%s: status %d, %s", value, status, stderr)
		}
	}
	if made, _ := os.ReadDir(dir); len(made) != 1 {
		t.Errorf("the current folder has %v", made)
	}
}

func TestWithoutHomeTheVariablesAreNamed(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	model := filepath.Join(dir, "model.gguf")
	if err := os.WriteFile(model, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"info"}, {"doctor"}, {"masks", "set", model, "--layers", "0", "--mlp", "0-3"}, {"serve", model}} {
		var out, words bytes.Buffer
		a := fakeApp(nil, &out, &words)
		a.getenv = func(name string) string { return map[string]string{"HOME": environ.NoHome}[name] }
		status := run(context.Background(), a, args)
		text := words.String()
		if status != exitHeld || !strings.Contains(text, "LATHE_CACHE") || !strings.Contains(text, "LATHE_WORKSPACES") || strings.Count(text, "\n") != 1 {
			t.Errorf("%v: status %d, %q", args, status, text)
		}
	}
	if made, _ := os.ReadDir(dir); len(made) != 1 {
		t.Errorf("the current folder has %v", made)
	}
}

func TestUnwritableFolders(t *testing.T) {
	dir := t.TempDir()
	model, file := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "file")
	for _, path := range []string{model, file} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit := []string{"fake", "masks", "set", model, "--layers", "0", "--mlp", "0-3"}
	_, stderr, status := program(t, dir, []string{"HOME=" + dir, "LATHE_WORKSPACES=" + file + "/w"}, edit...)
	if status != exitHeld || !strings.Contains(stderr, "LATHE_WORKSPACES") {
		t.Errorf("workspaces: status %d, %s", status, stderr)
	}
	_, stderr, status = program(t, dir, []string{"HOME=" + dir}, append(edit, "--workspace", file+"/w")...)
	if status != exitHeld {
		t.Errorf("workspace: status %d, %s", status, stderr)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	_, stderr, status = program(t, dir, []string{"HOME=" + dir, "LATHE_CACHE=" + file + "/c"}, "fake", "info", folder)
	if status != exitHeld || !strings.Contains(stderr, "LATHE_CACHE") {
		t.Errorf("cache: status %d, %s", status, stderr)
	}
}
