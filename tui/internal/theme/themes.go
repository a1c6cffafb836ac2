package theme

import "slices"

// A named theme replaces colours of the default one, by their values on dark and on light backgrounds.
type named struct {
	name, about string
	dark, light map[string]string
	ramp        []spec // nil: that of the default theme
	plain       bool   // no colours among sixteen either: meaning is in glyphs and weight
}

// Default is the name of the theme of an empty Look.
const Default = "lathe"

// Names returns the names of the themes, the default one first.
func Names() []string {
	var out []string
	for _, n := range all() {
		out = append(out, n.name)
	}
	return out
}

// Has reports whether there is a theme of a name.
func Has(name string) bool { return slices.Contains(Names(), name) }

// About describes a theme in a few words.
func About(name string) string { return Look{Name: name}.named().about }

// named returns the theme of the look.
func (l Look) named() named {
	themes := all()
	return themes[max(0, slices.IndexFunc(themes, func(n named) bool { return n.name == l.Name }))]
}

// Colour returns the colour that the look has in place of those of the default theme: "#rrggbb".
func (l Look) Colour(dark, light string) string {
	n := l.named()
	if l.Light {
		return "#" + n.of(n.light, light)
	}
	return "#" + n.of(n.dark, dark)
}

// of returns the colour in place of one of the default theme.
func (named) of(replaced map[string]string, hex string) string {
	if other, ok := replaced[hex]; ok {
		return other
	}
	return hex
}

func (n named) spec(s spec) spec {
	s.dark, s.light = n.of(n.dark, s.dark), n.of(n.light, s.light)
	if n.plain {
		s.dark16, s.light16 = own, own
	}
	return s
}

func (n named) heat() []spec {
	if n.ramp != nil {
		return n.ramp
	}
	return ramp()
}

func all() []named {
	return []named{
		{name: Default, about: "orange and teal"},
		{
			name: "ocean", about: "blues, with a ramp from violet to yellow",
			dark:  map[string]string{"f2a65a": "5cc8ff", "7db7ff": "a9b8ff", "4fd1b5": "6fe0a8", "e49bff": "ff9ecb", "f5c451": "f0d27a", "5f7fa8": "5a7fb0"},
			light: map[string]string{"a85a00": "00609a", "0b5cad": "4848b8", "00705a": "0b6b3a", "8a2bb0": "a31a6b", "8a6100": "7a5c00"},
			ramp: []spec{
				{dark: "5b4a9a", light: "c8d8b0", dark16: blue, light16: white},
				{dark: "46659c", light: "9cc7a0", dark16: blue, light16: cyan},
				{dark: "347f9a", light: "6fb09a", dark16: cyan, light16: cyan},
				{dark: "2a9990", light: "4a9696", dark16: cyan, light16: blue},
				{dark: "42b47a", light: "3a7c92", dark16: green, light16: blue},
				{dark: "7fcc5a", light: "3c608c", dark16: green, light16: magenta},
				{dark: "bfdc3c", light: "453f7c", dark16: yellow, light16: magenta},
				{dark: "fde725", light: "3a1458", dark16: brightYellow, light16: black},
			},
		},
		{
			name: "forest", about: "greens",
			dark:  map[string]string{"f2a65a": "b8d66a", "7db7ff": "8cc8d8", "4fd1b5": "6fd08c", "e49bff": "e0a8e8", "f5c451": "e8c860", "ff8266": "f08a70"},
			light: map[string]string{"a85a00": "4c6a00", "0b5cad": "1f6273", "00705a": "1c6b34", "8a2bb0": "7d3a8c"},
		},
		{
			name: "rose", about: "pink and violet",
			dark:  map[string]string{"f2a65a": "ff8fb1", "7db7ff": "b3a8ff", "4fd1b5": "8fd6c4", "e49bff": "ffd27f", "f5c451": "f7c59f"},
			light: map[string]string{"a85a00": "a81e52", "0b5cad": "5142b5", "00705a": "0f6a5a", "8a2bb0": "855700", "8a6100": "7d5a10"},
		},
		{
			name: "contrast", about: "high contrast",
			dark: map[string]string{
				"9aa4b2": "e6e6e6", "8a94a3": "c8c8c8", "737d8b": "b8b8b8", "d5dbe5": "ffffff", "4a525e": "9a9a9a", "646d7b": "b8b8b8", "c4ccd8": "ffffff", "f2a65a": "ffd700",
				"7db7ff": "8cc4ff", "4fd1b5": "00ff9c", "ff8266": "ff9a8a", "f5c451": "ffe45c", "e49bff": "f0b8ff", "5f7fa8": "a8c4f0",
			},
			light: map[string]string{
				"566070": "222222", "667080": "404040", "858e9b": "505050", "2b323c": "000000", "a9b1bc": "606060", "8a929e": "505050", "3d4651": "000000",
				"a85a00": "7a3c00", "0b5cad": "003f8a", "00705a": "005a3c", "8a6100": "5c4000", "b3321b": "8a0000", "8a2bb0": "5c0080", "6f8fb8": "2c4f80",
			},
		},
		{
			name: "mono", about: "no colours, shades of grey", plain: true,
			dark:  map[string]string{"f2a65a": "ffffff", "7db7ff": "e0e0e0", "4fd1b5": "d8d8d8", "e49bff": "f4f4f4", "f5c451": "c8c8c8", "ff8266": "ffffff", "5f7fa8": "8a8a8a"},
			light: map[string]string{"a85a00": "000000", "0b5cad": "202020", "00705a": "303030", "8a2bb0": "101010", "8a6100": "404040", "b3321b": "000000", "6f8fb8": "808080"},
			ramp: []spec{
				{dark: "505050", light: "d0d0d0"}, {dark: "686868", light: "b4b4b4"}, {dark: "808080", light: "989898"}, {dark: "989898", light: "7c7c7c"},
				{dark: "b0b0b0", light: "606060"}, {dark: "c8c8c8", light: "444444"}, {dark: "e0e0e0", light: "282828"}, {dark: "ffffff", light: "000000"},
			},
		},
	}
}
