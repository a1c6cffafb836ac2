package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/tui"
)

// settingsFile is the file of a person's choices, in the configuration folder. Keys that lathe does not know stay in it.
const settingsFile = "settings.toml"

// maxSettings bounds the files of settings, in bytes.
const maxSettings = 64 << 10

// configPath returns a path in the user's configuration folder for lathe.
func (a *app) configPath(name string) (string, error) {
	dir, err := a.base("XDG_CONFIG_HOME", ".config")
	return filepath.Join(dir, "lathe", name), err
}

// readSmall reads a file that must not be larger than settings are. It returns nil where there is none.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Size() > maxSettings:
		return nil, fmt.Errorf("%s: it has %d bytes, settings have at most %d", path, info.Size(), maxSettings)
	}
	return os.ReadFile(path)
}

// settings reads the file of settings: its keys, and the style that they choose.
func (a *app) settings() (path string, keys map[string]any, s tui.Style, err error) {
	if path, err = a.configPath(settingsFile); err != nil {
		return "", nil, s, err
	}
	data, err := readSmall(path)
	if err != nil {
		return path, nil, s, err
	}
	keys = make(map[string]any)
	if err := toml.Unmarshal(data, &keys); err != nil {
		return path, nil, s, fmt.Errorf("%s: %w", path, err)
	}
	word := func(key string) (string, error) {
		v, there := keys[key]
		text, ok := v.(string)
		if there && !ok {
			return "", fmt.Errorf("%s: %s: must be a string", path, key)
		}
		return text, nil
	}
	if s.Theme, err = word("theme"); err == nil && s.Theme != "" && !slices.Contains(tui.ThemeNames(), s.Theme) {
		err = fmt.Errorf("%s: theme: there is no theme %q%s", path, s.Theme, orNearest(s.Theme, tui.ThemeNames()))
	}
	if err != nil {
		return path, keys, tui.Style{}, err
	}
	background, err := word("background")
	if err == nil && background != "" {
		s.Background, err = tui.ParseTheme(background)
		if err != nil {
			err = fmt.Errorf("%s: background: %w", path, err)
		}
	}
	if err != nil {
		return path, keys, tui.Style{}, err
	}
	if v, there := keys["ascii"]; there {
		ascii, ok := v.(bool)
		if !ok {
			return path, keys, tui.Style{}, fmt.Errorf("%s: ascii: must be true or false", path)
		}
		s.ASCII = ascii
	}
	return path, keys, s, nil
}

// keepStyle writes a style into the file of settings, which it does not change where it cannot read it.
func (a *app) keepStyle(s tui.Style) error {
	path, keys, _, err := a.settings()
	if keys == nil {
		return err
	}
	keys["theme"], keys["ascii"] = s.Theme, s.ASCII
	if keys["background"] = string(s.Background); s.Background == tui.ThemeAuto {
		keys["background"] = "auto"
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(keys); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, b.Bytes(), 0o644)
}

// screenFile is the file in a workspace that names the screen that was shown last.
const screenFile = "screen.json"

// lastScreen returns the screen that was shown last on a workspace, "" if none is known.
func lastScreen(workspace string) string {
	data, err := readSmall(filepath.Join(workspace, screenFile))
	var kept struct{ Screen string }
	if err != nil || json.Unmarshal(data, &kept) != nil || !slices.Contains(tui.ScreenNames(), kept.Screen) {
		return ""
	}
	return kept.Screen
}

// keepScreen keeps the screen that was shown last. It is a convenience: without it the explorer begins with the first one.
func keepScreen(workspace, screen string) {
	data, err := json.Marshal(struct{ Screen string }{screen})
	if err == nil {
		_ = durable.WriteFile(filepath.Join(workspace, screenFile), data, 0o644)
	}
}
