package plain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lathe-llm/lathe/infer/plain"
)

// TestError makes real errors of Go's packages, wrapped as the program wraps them.
func TestError(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := func() error { _, err := os.Open(filepath.Join(dir, "none")); return err }()
	below := func() error { _, err := os.Open(filepath.Join(file, "none")); return err }()
	folder := func() error { _, err := os.ReadFile(dir); return err }()
	exists := os.Mkdir(dir, 0o700)
	number := func(text string) error { _, err := strconv.Atoi(text); return err }
	var v struct {
		Deep struct{ Layers int }
	}
	ended := exec.Command("sh", "-c", "exit 3").Run()
	absent := exec.Command("no-such-program").Run()
	_, listening := net.Listen("tcp", "192.0.2.1:9")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("as it is"), "as it is"},
		{missing, dir + "/none: no such file or folder"},
		{fmt.Errorf("--text: %w", missing), "--text: " + dir + "/none: no such file or folder"},
		{fmt.Errorf("%s/none: %w", dir, missing), dir + "/none: no such file or folder"},
		{below, file + "/none: a part of the path is a file, where a folder is expected"},
		{folder, dir + ": a folder, where a file is expected"},
		{exists, dir + ": exists already"},
		{fmt.Errorf("cannot write: %w", syscall.ENOENT), "cannot write: no such file or folder"},
		{syscall.EIO, syscall.EIO.Error()},
		{fmt.Errorf("--layers: %w", number("many")), `--layers: "many" is not a whole number`},
		{number("99999999999999999999"), `"99999999999999999999" is out of range for a whole number`},
		{fmt.Errorf("recipe: %w", json.Unmarshal([]byte(`{"Deep":{"Layers":"two"}}`), &v)), "recipe: field Deep.Layers is text, where a whole number is expected (JSON, byte 23)"},
		{json.Unmarshal([]byte(`{"Deep":{"Layers":1.5}}`), &v), "field Deep.Layers is the number 1.5, where a whole number is expected (JSON, byte 21)"},
		{json.Unmarshal([]byte(`{"Deep"`), &v), "not valid JSON at byte 7"},
		{fmt.Errorf("header: %w", io.ErrUnexpectedEOF), "header: the data ends early: the file is truncated, or of another kind"},
		{fmt.Errorf("template: %w", ended), "template: it ended with status 3"},
		{absent, "the program no-such-program is not installed, or is not in $PATH"},
		{listening, "cannot listen on 192.0.2.1:9: this machine has no such address"},
		{errors.Join(missing, fmt.Errorf("and %w", number("x"))), dir + "/none: no such file or folder\nand \"x\" is not a whole number"},
	} {
		if got := plain.Error(c.err); got != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.err, got, c.want)
		}
	}
	if text := plain.Error(fmt.Errorf("a: %w", missing)); strings.Contains(text, "open ") {
		t.Error(text)
	}
}
