package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui"
)

// An exploring is a program whose interface is a function.
func exploring(t *testing.T, b *explorertest.Backend, env map[string]string, show func(e *explorer.Exploration, o tui.Options) error) *app {
	t.Helper()
	return &app{
		stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}, getenv: func(key string) string { return env[key] },
		backend: func(string) (explorer.Backend, error) { return b, nil },
		open:    func(_ context.Context, _ *app, e *explorer.Exploration, o tui.Options) error { return show(e, o) },
	}
}

// TestExplorerOpensAnotherModel leaves one model for another, comes back where that cannot be opened, and shows the screen of last time.
func TestExplorerOpensAnotherModel(t *testing.T) {
	dir := t.TempDir()
	b := explorertest.New()
	b.Missing = []string{filepath.Join(dir, "gone.gguf")}
	env := map[string]string{"HOME": dir, "LATHE_WORKSPACES": filepath.Join(dir, "ws"), "LATHE_CACHE": filepath.Join(dir, "cache"), "XDG_CONFIG_HOME": filepath.Join(dir, "config")}
	one, two := filepath.Join(dir, "one.gguf"), filepath.Join(dir, "two.gguf")
	for _, path := range []string{one, two} {
		if err := os.WriteFile(path, []byte("GGUF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var shown []string
	a := exploring(t, b, env, func(e *explorer.Exploration, o tui.Options) error {
		s := e.Snapshot()
		shown = append(shown, strings.Join([]string{filepath.Base(s.Model.Path), filepath.Base(s.Workspace.Path), o.Screen, strings.Join(o.Warnings, ";")}, " "))
		switch len(shown) {
		case 1:
			o.Left("library")
			return &tui.Opening{Model: two, Workspace: filepath.Join(dir, "other")}
		case 2:
			if err := o.Opener.Check(t.Context(), tui.Opening{Model: b.Missing[0]}); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a missing model: %v", err)
			}
			if err := o.Opener.Check(t.Context(), tui.Opening{Model: one, Workspace: two}); err == nil {
				t.Error("a file is taken as a workspace")
			}
			if err := o.KeepStyle(tui.Style{Theme: "rose"}); err != nil {
				t.Error(err)
			}
			return &tui.Opening{Model: b.Missing[0]}
		}
		return nil
	})
	if err := a.exploreFrom(t.Context(), tui.Opening{Model: one, Workspace: filepath.Join(dir, "first")}, tui.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"one.gguf first  ", "two.gguf other  ", "two.gguf other  "}
	if len(shown) != 3 || !slices.Equal(shown[:2], want[:2]) || !strings.HasPrefix(shown[2], want[2]) || !strings.Contains(shown[2], "gone.gguf") {
		t.Errorf("shown %q", shown)
	}
	if got := lastScreen(filepath.Join(dir, "first")); got != "library" {
		t.Errorf("the last screen is %q", got)
	}
	shown = make([]string, 5)
	if err := a.exploreFrom(t.Context(), tui.Opening{Model: one, Workspace: filepath.Join(dir, "first")}, tui.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := shown[5]; !strings.Contains(got, " library ") {
		t.Errorf("opened again, the explorer shows %q", got)
	}
	var o tui.Options
	if err := a.keptStyle(&o); err != nil || o.Colours != "rose" {
		t.Errorf("the kept theme is %q, %v", o.Colours, err)
	}
	homeless := &app{getenv: func(string) string { return "" }}
	if err := homeless.keptStyle(&tui.Options{}); err != nil {
		t.Errorf("without a home folder: %v", err)
	}
}

// FuzzSettings reads settings from any content of their files.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("theme = \"ocean\"\nbackground = \"dark\"\nascii = true\n"), []byte(`{"Screen":"chat"}`))
	f.Add([]byte("theme = 3"), []byte("["))
	dir := f.TempDir()
	a := &app{getenv: func(key string) string { return map[string]string{"XDG_CONFIG_HOME": dir}[key] }}
	if err := os.MkdirAll(filepath.Join(dir, "lathe"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, settings, screen []byte) {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "lathe", settingsFile), settings, 0o600), os.WriteFile(filepath.Join(dir, screenFile), screen, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, _, s, err := a.settings()
		if err == nil && s.Theme != "" && !slices.Contains(tui.ThemeNames(), s.Theme) {
			t.Errorf("theme %q", s.Theme)
		}
		if got := lastScreen(dir); got != "" && !slices.Contains(tui.ScreenNames(), got) {
			t.Errorf("screen %q", got)
		}
	})
}
