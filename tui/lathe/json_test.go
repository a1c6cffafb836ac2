package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// exits runs a command and checks its exit status: exits STATUS COMMAND [ARGS…]. On failure standard error must be one
// line and standard output empty.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARGS…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
	if want == 0 {
		return
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("it failed and wrote %q on standard output", out)
	}
	if words := strings.TrimRight(ts.ReadFile("stderr"), "\n"); words == "" || strings.Contains(words, "\n") {
		ts.Fatalf("an error is one line, not %q", words)
	}
}

// jsonshape writes the shape of a file's JSON on standard output, the names and kinds of its values, for cmp.
func jsonshape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jsonshape FILE")
	}
	var lines []string
	decoder := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile(args[0]))))
	for decoder.More() {
		var v any
		ts.Check(decoder.Decode(&v))
		shape(&lines, "", v)
	}
	slices.Sort(lines)
	_, err := io.WriteString(ts.Stdout(), strings.Join(slices.Compact(lines), "\n")+"\n")
	ts.Check(err)
}

// shape lists every path of a JSON value with its type.
func shape(lines *[]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			shape(lines, path+"."+key, inner)
		}
	case []any:
		if len(v) == 0 {
			*lines = append(*lines, path+"[]")
		}
		for _, inner := range v {
			shape(lines, path+"[]", inner)
		}
	case nil:
		*lines = append(*lines, path+" null")
	case bool:
		*lines = append(*lines, path+" bool")
	case float64:
		*lines = append(*lines, path+" number")
	case string:
		*lines = append(*lines, path+" string")
	}
}
