package tui

import (
	"errors"
	"fmt"
	"strconv"
)

// Variables of a viewer's environment that decide how the interface looks. An option of the program overrides them; over SSH
// each session has its own.
const (
	ColorVariable = "LATHE_COLOR" // as ParseColor reads it; overrides NO_COLOR and what the terminal reports
	ThemeVariable = "LATHE_THEME" // as ParseStyle reads it; overrides the kept theme and the background that the terminal reports
	ASCIIVariable = "LATHE_ASCII" // 1 draws with ASCII characters only, 0 does not
	KeysVariable  = "LATHE_KEYS"  // content of a TOML key map, which overrides that of a file
)

// Theme is the kind of background to draw for; the zero value asks the terminal.
type Theme string

// The themes.
const (
	ThemeAuto  Theme = ""
	ThemeDark  Theme = "dark"
	ThemeLight Theme = "light"
)

// ParseColor reads auto, none, 16, 256 or true.
func ParseColor(text string) (Color, error) {
	switch c := Color(text); c {
	case ColorNone, Color16, Color256, ColorTrue:
		return c, nil
	case "auto":
		return ColorAuto, nil
	default: // nothing for the others
	}
	return ColorAuto, fmt.Errorf("%q is not auto, none, 16, 256 or true", text)
}

// ParseTheme reads auto, dark or light.
func ParseTheme(text string) (Theme, error) {
	switch t := Theme(text); t {
	case ThemeDark, ThemeLight:
		return t, nil
	case "auto":
		return ThemeAuto, nil
	default: // nothing for the others
	}
	return ThemeAuto, fmt.Errorf("%q is not %s", text, themeWords)
}

// ReadEnvironment sets Color, Theme, Colours, ASCII and Keys from the variables that are set. A variable with an invalid value changes
// nothing; the error names all of them.
func (o *Options) ReadEnvironment(getenv func(string) string) error {
	var failed []error
	read := func(variable string, set func(text string) error) {
		if text := getenv(variable); text != "" {
			if err := set(text); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", variable, err))
			}
		}
	}
	read(ColorVariable, func(text string) error {
		c, err := ParseColor(text)
		if err == nil {
			o.Color = c
		}
		return err
	})
	read(ThemeVariable, func(text string) error {
		s, err := ParseStyle(text)
		if err != nil {
			return err
		}
		o.Theme = s.Background
		if s.Theme != "" {
			o.Colours = s.Theme
		}
		return nil
	})
	read(ASCIIVariable, func(text string) error {
		ascii, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is not 1 or 0", text)
		}
		o.ASCII = ascii
		return nil
	})
	read(KeysVariable, func(text string) error {
		o.Keys = text // its problems are shown when it is read
		return nil
	})
	return errors.Join(failed...)
}
