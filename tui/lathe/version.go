package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// release is the version of the program, the newest section of CHANGELOG.md that has a number.
const release = "v0.1.0"

// versions is what `version --json` writes: what the program was built from.
type versions struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`   // of the program; "" where it was built outside of a repository
	Modified bool   `json:"modified,omitempty"` // built from files that differ from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
	LlamaCPP string `json:"llama_cpp,omitempty"`   // commit of llama.cpp
	Ollama   string `json:"ollama,omitempty"`      // version of the Go module that has it
	GoMLX    string `json:"gomlx,omitempty"`       // versions of the Go modules that compute
	XLA      string `json:"go_xla,omitempty"`      // of the one that loads XLA
	Plugin   string `json:"xla_plug_in,omitempty"` // path of XLA's plug-in for processors, "" if none was found
	Pinned   string `json:"xla_version,omitempty"` // of that plug-in, where set-up installed it
}

// version returns the version of the program.
func version() string { return release }

// builtFrom returns the versions of the program and of what it is built from.
func builtFrom() versions {
	v := versions{
		Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if llamacpp.BuiltIn {
		v.LlamaCPP, v.Ollama = llamacpp.Commit, llamacpp.Bindings
	}
	v.Commit, v.Modified = builtAt()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/gomlx/gomlx":
			v.GoMLX = d.Version
		case "github.com/gomlx/go-xla":
			v.XLA = d.Version
		}
	}
	if v.XLA != "" {
		v.Plugin, v.Pinned = decoder.Plugin()
	}
	return v
}

// builtAt returns the commit that the program was built at, "" where that is not known, and whether files differed from it.
func builtAt() (commit string, modified bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	return commit, modified
}

// String returns the versions in a few lines.
func (v versions) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lathe version %s", v.Version)
	if v.Commit != "" {
		fmt.Fprintf(&b, " (commit %.12s", v.Commit)
		if v.Modified {
			b.WriteString(", modified")
		}
		b.WriteString(")")
	}
	if v.LlamaCPP == "" {
		b.WriteString("\nllama.cpp: not in this build, which was made without cgo\nXLA")
	} else {
		fmt.Fprintf(&b, "\nllama.cpp %s (as in ollama %s)\nXLA", v.LlamaCPP, v.Ollama)
	}
	switch {
	case v.XLA == "":
		b.WriteString(": not in this build")
	case v.Plugin == "":
		b.WriteString(" plug-in: none found")
	case v.Pinned != "":
		fmt.Fprintf(&b, " plug-in %s, %s", v.Pinned, v.Plugin)
	default:
		fmt.Fprintf(&b, " plug-in %s", v.Plugin)
	}
	if v.XLA != "" {
		fmt.Fprintf(&b, " (go-xla %s, GoMLX %s)", v.XLA, v.GoMLX)
	}
	fmt.Fprintf(&b, "\n%s, %s\n", v.Go, v.Platform)
	return b.String()
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the versions of the program and of what it is built from", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := builtFrom()
			return a.result(v, func(w io.Writer) { fmt.Fprint(w, v) })
		},
	}
}
