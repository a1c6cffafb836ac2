//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestFullDiskPausesASearch runs the real program on a disk that becomes full while levels are made or while candidates are scored. Each time the search waits, reports the reason, and continues when there is room; it ends like
// one that never waited.
func TestFullDiskPausesASearch(t *testing.T) {
	if err := exec.Command("unshare", "--map-root-user", "--mount", "true").Run(); err != nil {
		t.Skipf("no mounts of its own: %v", err)
	}
	m := newTeam(t)
	args := []string{"search", m.model, "--target", "0.7", "--budget", "evals=300", "--seq", "32", "--windows", "4", "--levels-space", "64MB", "--text", m.path("cache", "text", "wiki.utf8"), "--json"}
	last := func(out string) string {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return lines[len(lines)-1]
	}
	out, words, status := m.lathe(append(args, "--workspace", m.path("whole"))...)
	if status != exitOK {
		t.Fatalf("status %d\n%s", status, words)
	}
	want := last(out)
	size := func(parts ...string) (pages int64) {
		err := filepath.WalkDir(m.path(parts...), func(_ string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, err := d.Info()
				if err != nil {
					return err
				}
				pages += (info.Size() + 4095) / 4096 * 4096
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return pages
	}
	levels, whole := size("whole", "search", "levels"), size("whole")
	const disk = 64 << 20
	for name, free := range map[string]int64{
		"levels": levels / 2, "first checkpoint": levels + 32<<10, "later": whole - size("whole", "weights"),
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "disk")
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			script, err := filepath.Abs(filepath.Join("testdata", "fulldisk.sh"))
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "unshare", append([]string{
				"--map-root-user", "--mount", "sh", script, folder, strconv.Itoa(disk), fmt.Sprint(free), "lathe",
			}, append(args, "--workspace", filepath.Join(folder, "workspace"))...)...)
			var got bytes.Buffer
			cmd.Dir, cmd.Env, cmd.Stdout = m.dir, m.env, &got
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill() }()
			inside := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", folder)
			var words strings.Builder
			paused := false
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				fmt.Fprintln(&words, lines.Text())
				if paused || !strings.Contains(lines.Text(), "search at 0.70 is paused until there is room") || !strings.Contains(lines.Text(), "no space left on") {
					continue
				}
				paused = true
				t.Log(lines.Text())
				out, said, status := m.lathe("search", "status", m.model, "--workspace", filepath.Join(inside, "workspace"), "--json")
				var state struct {
					Paused     string
					Unfinished *struct{ Author string } `json:"unfinished_search"`
				}
				if err := json.Unmarshal([]byte(out), &state); err != nil || status != exitOK || !strings.Contains(state.Paused, "no space left on") || state.Unfinished == nil {
					t.Errorf("its status is %d, %v: %s%s", status, err, out, said)
				}
				if err := os.Remove(filepath.Join(inside, "filler")); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err != nil || !paused || !strings.Contains(words.String(), "search at 0.70 continues: there is room again") {
				t.Fatalf("paused %v, %v\n%s", paused, err, &words)
			}
			if end := last(got.String()); end != want {
				t.Errorf("it ends with\n%s\nnot\n%s", end, want)
			}
		})
	}
}

// TestFullDisksKeepASubnet: a cut waits for room for its weights in the scratch folder, and its export for room for the output. Interrupted then, it is in
// the workspace and exported later.
func TestFullDisksKeepASubnet(t *testing.T) {
	if err := exec.Command("unshare", "--map-root-user", "--mount", "true").Run(); err != nil {
		t.Skipf("no mounts of its own: %v", err)
	}
	m := newTeam(t)
	script, err := filepath.Abs(filepath.Join("testdata", "fulldisk.sh"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--map-root-user", "--mount"}
	for name, size := range map[string]int{"out": 1 << 20, "scratch": 220 << 10} { // the scratch folder never holds the file of the subnet
		if err := os.Mkdir(m.path(name), 0o755); err != nil {
			t.Fatal(err)
		}
		args = append(args, "sh", script, m.path(name), strconv.Itoa(size), strconv.Itoa(32<<10))
	}
	args = append(args, "lathe", "cut", m.model, "--ratio", "0.7", "--seq", "32", "--windows", "4", "--text", m.path("cache", "text", "wiki.utf8"), "-o", m.path("out", "x.gguf"))
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Dir, cmd.Env = m.dir, append(m.env, "LATHE_SCRATCH="+m.path("scratch"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var words strings.Builder
	waited, interrupted := false, false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&words, lines.Text())
		if !waited && strings.Contains(lines.Text(), "is paused until there is room") && strings.Contains(lines.Text(), "scratch") {
			waited = true
			if err := os.Remove(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", m.path("scratch"), "filler")); err != nil {
				t.Fatal(err)
			}
		} else if waited && !interrupted && strings.Contains(lines.Text(), "to x.gguf is paused until there is room") {
			interrupted = true
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !waited || !interrupted || !strings.Contains(words.String(), "no space left on") {
		t.Fatalf("waited %v, %v\n%s", waited, err, &words)
	}
	line := regexp.MustCompile("the subnet is kept in the workspace as (s[0-9]+): `lathe (subnets export [^`]*) -o FILE`").FindStringSubmatch(words.String())
	if line == nil {
		t.Fatalf("it is not kept:\n%s", &words)
	}
	if _, words, status := m.lathe(append(strings.Fields(line[2]), "-o", m.path("later.gguf"))...); status != exitOK {
		t.Errorf("its export: status %d\n%s", status, words)
	}
	if info, err := os.Stat(m.path("later.gguf")); err != nil || info.Size() < 230<<10 {
		t.Errorf("the export: %v, %v", info, err)
	}
	left, err := filepath.Glob(m.path("workspaces", "*keep*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestFullDiskPausesOtherWork runs commands of the real program whose workspace, output or temporary files are on a full disk: each waits, and
// succeeds once there is room.
func TestFullDiskPausesOtherWork(t *testing.T) {
	if err := exec.Command("unshare", "--map-root-user", "--mount", "true").Run(); err != nil {
		t.Skipf("no mounts of its own: %v", err)
	}
	m := newTeam(t)
	text := []string{"--text", m.path("cache", "text", "wiki.utf8"), "--seq", "32", "--windows", "4"}
	if _, words, status := m.lathe(append([]string{"cut", m.model, "--ratio", "0.7", "--name", "thin", "--workspace", m.path("base")}, text...)...); status != exitOK {
		t.Fatal(words)
	}
	folder := m.path("folder")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := converttest.Write(folder, converttest.Folder{Model: gguftest.Tiny("llama"), Class: "LlamaForCausalLM"}); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join("testdata", "fulldisk.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args    []string // DISK is the folder of the full disk
		scratch bool     // temporary files are on it
	}{
		"export":     {[]string{"subnets", "export", "thin", m.model, "--workspace", m.path("base"), "-o", "DISK/x.gguf"}, false},
		"folder":     {[]string{"subnets", "export", "thin", m.model, "--workspace", m.path("base"), "--as", "hf", "-o", "DISK/x"}, false},
		"cut":        {append([]string{"cut", m.model, "--ratio", "0.7", "-o", "DISK/x.gguf"}, text...), false},
		"convert":    {[]string{"convert", folder, "-o", "DISK/x.gguf"}, false},
		"benchmark":  {[]string{"bench", m.model, "--subnets", "thin", "--workspace", m.path("base"), "--prompt", "4", "--generate", "2", "--repeats", "1"}, true},
		"perplexity": {append([]string{"eval", m.model, "--subnet", "thin", "--engine", "llama.cpp", "--workspace", m.path("base")}, text...), true},
	} {
		t.Run(name, func(t *testing.T) {
			disk := t.TempDir()
			args := []string{"--map-root-user", "--mount", "sh", script, disk, strconv.Itoa(2 << 20), strconv.Itoa(16 << 10), "lathe"}
			for _, arg := range c.args {
				args = append(args, strings.ReplaceAll(arg, "DISK", disk))
			}
			cmd := exec.CommandContext(t.Context(), "unshare", args...)
			cmd.Dir, cmd.Env = m.dir, m.env
			if c.scratch {
				cmd.Env = append(cmd.Env, "LATHE_SCRATCH="+disk)
			}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill() }()
			var words strings.Builder
			paused := false
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				fmt.Fprintln(&words, lines.Text())
				if !paused && strings.Contains(lines.Text(), "is paused until there is room") && strings.Contains(lines.Text(), "no space left on") {
					paused = true
					if err := os.Remove(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", disk, "filler")); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cmd.Wait(); err != nil || !paused {
				t.Errorf("paused %v, %v\n%s", paused, err, &words)
			}
		})
	}
}
