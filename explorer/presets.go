package explorer

import "github.com/lathe-llm/lathe/search/oneshot/preset"

// Presets returns the names of the one-shot methods, the default first.
func Presets() []string { return preset.Names() }

// IsPreset reports whether a one-shot method has that name; "" is the default.
func IsPreset(name string) bool { return name == "" || preset.Exists(name) }
