package theme

// The sixteen colours by the names terminals give them.
const (
	own = -1

	black = iota - 1
	red
	green
	yellow
	blue
	magenta
	cyan
	white
	brightBlack
	brightRed
	brightGreen
	brightYellow
	brightBlue
	brightMagenta
	brightCyan
	brightWhite
)

// tokens is the palette. The hues of states and series stay apart for the common kinds of colour blindness: blue against
// orange rather than green against red where two must be distinguished at a glance.
func tokens(t *Theme) map[*Style]spec {
	return map[*Style]spec{
		&t.Text:        {},
		&t.Strong:      {attr: bold},
		&t.Dim:         {dark: "9aa4b2", light: "566070", dark16: white, light16: brightBlack},
		&t.Faint:       {dark: "8a94a3", light: "667080", dark16: brightBlack, light16: white, attr: faint},
		&t.Title:       {dark: "d5dbe5", light: "2b323c", dark16: own, light16: own, attr: bold},
		&t.Border:      {dark: "4a525e", light: "a9b1bc", dark16: brightBlack, light16: white, attr: faint},
		&t.Focus:       {dark: "f2a65a", light: "a85a00", dark16: brightYellow, light16: red, attr: bold},
		&t.Accent:      {dark: "f2a65a", light: "a85a00", dark16: brightYellow, light16: red, attr: bold},
		&t.Link:        {dark: "7db7ff", light: "0b5cad", dark16: brightBlue, light16: blue, attr: underline},
		&t.Good:        {dark: "4fd1b5", light: "00705a", dark16: brightGreen, light16: green},
		&t.Warn:        {dark: "f5c451", light: "8a6100", dark16: brightYellow, light16: magenta},
		&t.Bad:         {dark: "ff8266", light: "b3321b", dark16: brightRed, light16: red, attr: bold},
		&t.Info:        {dark: "7db7ff", light: "0b5cad", dark16: brightBlue, light16: blue},
		&t.Key:         {dark: "f2a65a", light: "a85a00", dark16: brightYellow, light16: red, attr: bold},
		&t.KeyText:     {dark: "9aa4b2", light: "566070", dark16: white, light16: brightBlack},
		&t.KeyOff:      {dark: "8a94a3", light: "667080", dark16: brightBlack, light16: white, attr: faint},
		&t.Selected:    {bgDark: "2b3444", bgLight: "dbe6f5", attr: reverse},
		&t.Cursor:      {bgDark: "3a4356", bgLight: "cbd9ec", attr: bold},
		&t.Caret:       {attr: reverse},
		&t.Dense:       {dark: "c4ccd8", light: "3d4651", dark16: brightWhite, light16: black},
		&t.Subnet:      {dark: "4fd1b5", light: "00705a", dark16: brightCyan, light16: cyan},
		&t.Yours:       {dark: "e49bff", light: "8a2bb0", dark16: brightMagenta, light16: magenta, attr: bold},
		&t.Front:       {dark: "f2a65a", light: "a85a00", dark16: brightYellow, light16: red, attr: bold},
		&t.Cloud:       {dark: "5f7fa8", light: "6f8fb8", dark16: blue, light16: blue, attr: faint},
		&t.Pending:     {dark: "f5c451", light: "8a6100", dark16: yellow, light16: magenta},
		&t.Kept:        {dark: "4fd1b5", light: "00705a", dark16: cyan, light16: cyan},
		&t.Dropped:     {dark: "737d8b", light: "858e9b", dark16: brightBlack, light16: white, attr: faint},
		&t.Partial:     {dark: "f5c451", light: "8a6100", dark16: yellow, light16: magenta},
		&t.Added:       {dark: "7db7ff", light: "0b5cad", dark16: brightBlue, light16: blue, attr: bold},
		&t.Removed:     {dark: "ff8266", light: "b3321b", dark16: brightRed, light16: red, attr: bold},
		&t.Axis:        {dark: "646d7b", light: "8a929e", dark16: brightBlack, light16: brightBlack, attr: faint},
		&t.Label:       {dark: "9aa4b2", light: "566070", dark16: white, light16: brightBlack},
		&t.Input:       {},
		&t.Placeholder: {dark: "8a94a3", light: "667080", dark16: brightBlack, light16: brightBlack, attr: faint},
		&t.User:        {dark: "7db7ff", light: "0b5cad", dark16: brightBlue, light16: blue, attr: bold},
		&t.Code:        {dark: "f5c451", light: "8a6100", dark16: yellow, light16: magenta},
	}
}

// series are the lines of charts, in the order they are used.
func series() []spec {
	return []spec{
		{dark: "4fd1b5", light: "00705a", dark16: brightCyan, light16: cyan},
		{dark: "f2a65a", light: "a85a00", dark16: brightYellow, light16: red},
		{dark: "7db7ff", light: "0b5cad", dark16: brightBlue, light16: blue},
		{dark: "e49bff", light: "8a2bb0", dark16: brightMagenta, light16: magenta},
		{dark: "c4ccd8", light: "3d4651", dark16: white, light16: black},
		{dark: "ff8266", light: "b3321b", dark16: brightRed, light16: brightRed},
	}
}

// shades run from plain text to words that stand out.
func shades() []spec {
	return []spec{
		{},
		{dark: "f5c451", light: "8a6100", dark16: yellow, light16: magenta},
		{dark: "f2a65a", light: "a85a00", dark16: brightYellow, light16: red, attr: underline},
		{dark: "ff8266", light: "b3321b", dark16: brightRed, light16: red, attr: bold | underline},
	}
}

// ages run from dim to bright.
func ages() []spec {
	return []spec{
		{dark: "3f5068", light: "b9c9de", dark16: brightBlack, light16: white, attr: faint},
		{dark: "5f7fa8", light: "87a5cb", dark16: blue, light16: cyan, attr: faint},
		{dark: "8db4e6", light: "4a7ab5", dark16: brightBlue, light16: blue},
		{dark: "e3efff", light: "0b3a75", dark16: brightWhite, light16: black, attr: bold},
	}
}

// ramp runs from cold to hot with rising lightness on dark backgrounds and falling lightness on light ones.
func ramp() []spec {
	return []spec{
		{dark: "3b4a7a", light: "c9bfe0", dark16: blue, light16: white},
		{dark: "3f6a94", light: "b39fce", dark16: blue, light16: cyan},
		{dark: "3f8f98", light: "a07fae", dark16: cyan, light16: cyan},
		{dark: "57ad86", light: "9a6488", dark16: cyan, light16: blue},
		{dark: "9bc267", light: "994d62", dark16: green, light16: magenta},
		{dark: "dfc65c", light: "973a40", dark16: yellow, light16: red},
		{dark: "f5a35a", light: "8f2a26", dark16: brightYellow, light16: red},
		{dark: "ff8266", light: "7c1712", dark16: brightRed, light16: black},
	}
}
