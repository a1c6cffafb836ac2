//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// A killedJob is a command that a test kills.
type killedJob struct {
	name   string
	args   []string
	output string // name of the file or folder that it writes
	again  string // a flag that continues it
	varies bool   // its result differs from run to run
}

// TestKilledJobsLoseNothing runs the real program with every kind of job and kills it after a random number of changes to its files and of
// pieces of output. What was there before must be there afterwards, an output is absent or whole, and the same command ends
// like one that nobody killed.
func TestKilledJobsLoseNothing(t *testing.T) {
	m := newTeam(t)
	m.env = append(m.env, "LATHE_SCRATCH="+m.path("scratch"))
	base, text := m.path("base"), m.path("cache", "text", "wiki.utf8")
	calibration := []string{"--text", text, "--seq", "32", "--windows", "4"}
	must := func(args ...string) string {
		t.Helper()
		out, words, status := m.lathe(args...)
		if status != exitOK {
			t.Fatalf("%v: status %d\n%s", args, status, words)
		}
		return out
	}
	in := func(workspace string, args ...string) []string {
		return append(args, m.model, "--workspace", workspace)
	}
	must(append(in(base, "cut"), append(calibration, "--ratio", "0.7", "--name", "cut", "-o", m.path("cut.gguf"))...)...)
	must(in(base, "recipe", "export", "cut", "-o", m.path("recipe.json"))...)
	must(append(in(base, "masks", "set"), "--layers", "0", "--mlp", "0-3")...)
	must(append(in(base, "masks", "set"), "--layers", "1", "--mlp", "0-63", "--save", "by hand")...)
	must(in(base, "masks", "undo")...)
	must(append(in(base, "chats", "new"), "--max-tokens", "24")...)
	must(in(base, "chats", "say", "c1", "hello")...)
	bench := []string{"bench", "--prompt", "16", "--generate", "8", "--repeats", "2"}
	must(in(base, bench...)...)

	kinds := []killedJob{
		{name: "search", args: append([]string{"search", "--target", "0.7", "--budget", "evals=150"}, calibration...), again: "--resume"},
		{name: "statistics", args: []string{"statistics", "--text", text, "--seq", "32", "--windows", "6"}},
		{name: "cut", args: append([]string{"cut", "--ratio", "0.8"}, calibration...), output: "new.gguf"},
		{name: "reform", args: append([]string{"reform", "--subnet", "by hand"}, calibration...), output: "new.gguf"},
		{name: "tune", args: []string{"tune", "--subnet", "cut", "--budget", "40steps", "--rate", "0.02", "--windows", "16", "--seq", "32", "--text", text, "--type", "F32"}, output: "new.gguf"},
		{name: "export", args: []string{"subnets", "export", "cut"}, output: "new.gguf"},
		{name: "folder", args: []string{"subnets", "export", "cut", "--as", "hf"}, output: "new"},
		{name: "import", args: []string{"subnets", "import", m.path("cut.gguf")}},
		{name: "chat", args: []string{"chats", "say", "c1", "and then"}, varies: true},
		{name: "bench", args: bench, varies: true},
		{name: "recipe", args: []string{"recipe", "build", m.path("recipe.json"), "--text", text}, output: "new.gguf"},
	}
	kills := 3
	if os.Getenv("LATHE_SLOW") != "" {
		kills = 20
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LATHE_KILL_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("LATHE_KILL_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	order := rng.Perm(len(kinds))
	whole := map[string]killedRun{}
	lost := 0
	for i := range kills {
		kind := kinds[order[i%len(order)]]
		at := func(name string) (workspace string, args []string) {
			t.Helper()
			workspace = m.path(name, "workspace")
			if err := os.CopyFS(workspace, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			args = append(in(workspace, kind.args...), "--json")
			if kind.output != "" {
				args = append(args, "-o", m.path(name, kind.output))
			}
			return workspace, args
		}
		if _, done := whole[kind.name]; !done {
			name := "whole-" + kind.name
			_, args := at(name)
			run := m.killAfter(-1, m.path(name), args...)
			if run.err != nil {
				t.Fatalf("%v: %v\n%s", args, run.err, run.words)
			}
			if kind.name == "tune" && run.kept["state"] < 2 {
				t.Errorf("tuning keeps %d states", run.kept["state"])
			}
			whole[kind.name] = run
		}
		want := whole[kind.name]
		if !t.Run(strconv.Itoa(i+1)+" "+kind.name, func(t *testing.T) {
			m := m.in(t)
			name := "killed-" + strconv.Itoa(i+1)
			workspace, args := at(name)
			before := m.held(workspace)
			point := 1 + rng.IntN(want.events)
			run := m.killAfter(point, m.path(name), args...)
			t.Logf("killed after %d of %d events: %v", point, want.events, run.err)
			after := m.held(workspace)
			for what := range before {
				if !holds(after[what], before[what]) {
					t.Errorf("%s before:\n%v\nafterwards:\n%v", what, before[what], after[what])
				}
			}
			out := m.path(name, kind.output)
			if run.ended(kind.name == "search") {
				if id := regexp.MustCompile(`"subnet":"(s\d+)"`).FindStringSubmatch(run.last()); id != nil && !holds(after["subnets list"], map[string]any{"subnets": []any{map[string]any{"id": id[1]}}}) {
					t.Errorf("%s was reported, and is not in %v", id[1], after["subnets list"])
				}
				if _, err := os.Stat(out); err != nil {
					t.Errorf("its output was reported: %v", err)
				}
			}
			m.wholeOutput(kind, out, m.path("whole-"+kind.name, kind.output))
			if kind.output != "" {
				args = append(args, "--force")
			}
			if kind.name == "folder" { // --force replaces files, never a folder
				if err := os.RemoveAll(out); err != nil {
					t.Fatal(err)
				}
			}
			if kind.again != "" {
				args = append(args, kind.again)
			}
			again := m.killAfter(-1, m.path(name), args...)
			if again.err != nil {
				t.Fatalf("%v: %v\n%s", args, again.err, again.words)
			}
			if got, want := again.result(m.path(name)), want.result(m.path("whole-"+kind.name)); !kind.varies && got != want {
				t.Errorf("again it ends with\n%s\nnot with\n%s", got, want)
			}
			for _, of := range []string{"levels", "state"} { // what a killed run kept is not computed again
				if run.kept[of]+again.kept[of] > want.kept[of] {
					t.Errorf("files of %s: %d were written before the kill and %d after it, but %d without one", of, run.kept[of], again.kept[of], want.kept[of])
				}
				if want.kept[of] > 0 {
					t.Logf("files of %s: %d, then %d; %d without a kill", of, run.kept[of], again.kept[of], want.kept[of])
				}
			}
			m.wholeOutput(kind, out, m.path("whole-"+kind.name, kind.output))
			for _, folder := range []string{m.path(name), m.path("scratch")} {
				if left := leftovers(t, folder); len(left) > 0 {
					t.Errorf("temporary files are left: %q", left)
				}
			}
			extra := slices.DeleteFunc(files(t, m.path(name)), func(path string) bool {
				begun := strings.Contains(path, "/statistics/") // which the next gathering continues
				return begun || slices.Contains(files(t, m.path("whole-"+kind.name)), path)
			})
			if len(extra) > 0 {
				t.Errorf("files that an uninterrupted run does not have: %q", extra)
			}
		}) {
			lost++
		}
	}
	t.Logf("%d kills, %d lost", kills, lost)
}

// killedRun is a run of the program, and how many events it had.
type killedRun struct {
	out, words string
	events     int
	kept       map[string]int // files that were renamed to their final names, by extension
	err        error
}

// last returns the last line of its standard output.
func (r killedRun) last() string {
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	return lines[len(lines)-1]
}

// ended reports whether the run printed its result.
func (r killedRun) ended(search bool) bool {
	return strings.HasSuffix(r.out, "\n") && (!search || strings.Contains(r.last(), `"event":"end"`))
}

// result returns what the run printed without ids, times and folder.
func (r killedRun) result(folder string) string {
	text := strings.ReplaceAll(r.last(), folder, "")
	return regexp.MustCompile(`"(subnet|id|parent|name|created|seconds|time|path|[a-z_]*_seconds)":("[^"]*"|[-+.e0-9]+),?`).ReplaceAllString(text, "")
}

// killAfter runs the program and kills it when it has had so many events: changes of files in the folder or in the scratch folder, and
// pieces of output. It does not kill it where point is negative.
func (m *team) killAfter(point int, folder string, args ...string) killedRun {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "lathe", args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = m.dir, m.env, patience
	var events atomic.Int64
	tick := func() {
		if events.Add(1) == int64(point) {
			_ = cmd.Process.Kill() // it may have ended
		}
	}
	out, words := &ticking{tick: tick}, &ticking{tick: tick}
	cmd.Stdout, cmd.Stderr = out, words
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		m.t.Fatal(err)
	}
	notes := os.NewFile(uintptr(fd), "inotify")
	folders, kept := map[int32]string{}, map[string]int{}
	watch := func(root string) {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() { // what is removed meanwhile is not watched
				w, err := syscall.InotifyAddWatch(fd, path, syscall.IN_CREATE|syscall.IN_MODIFY|syscall.IN_MOVED_TO|syscall.IN_DELETE|syscall.IN_CLOSE_WRITE)
				if err == nil {
					folders[int32(w)] = path
				}
			}
			return nil
		})
	}
	if err := os.MkdirAll(m.path("scratch"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	watch(folder)
	watch(m.path("scratch"))
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, err := notes.Read(b)
			if err != nil {
				return
			}
			for at := 0; at+syscall.SizeofInotifyEvent <= n; {
				e := (*syscall.InotifyEvent)(unsafe.Pointer(&b[at]))
				name := string(bytes.TrimRight(b[at+syscall.SizeofInotifyEvent:at+syscall.SizeofInotifyEvent+int(e.Len)], "\x00"))
				at += syscall.SizeofInotifyEvent + int(e.Len)
				if e.Mask&syscall.IN_ISDIR != 0 && e.Mask&(syscall.IN_CREATE|syscall.IN_MOVED_TO) != 0 {
					watch(filepath.Join(folders[e.Wd], name))
				}
				if e.Mask&syscall.IN_MOVED_TO != 0 {
					kept[strings.TrimLeft(filepath.Ext(name), ".")]++
				}
				tick()
			}
		}
	})
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		m.t.Errorf("%v: a child process outlives it", args)
	}
	_ = notes.Close() // nothing was written
	watching.Wait()
	return killedRun{out.String(), words.String(), int(events.Load()), kept, err}
}

// ticking keeps what is written and counts the pieces.
type ticking struct {
	bytes.Buffer
	tick func()
}

func (w *ticking) Write(p []byte) (int, error) {
	defer w.tick()
	return w.Buffer.Write(p)
}

// held returns what a workspace holds.
func (m *team) held(workspace string) map[string]any {
	m.t.Helper()
	all := map[string]any{}
	for _, command := range []string{"subnets list", "chats list", "chats show c1", "benches list", "masks show", "masks steps"} {
		args := append(strings.Fields(command), m.model, "--workspace", workspace, "--json")
		out, words, status := m.lathe(args...)
		var value any
		if err := json.Unmarshal([]byte(out), &value); err != nil || status != exitOK {
			m.t.Fatalf("%v: status %d, %v\n%s%s", args, status, err, out, words)
		}
		all[command] = value
	}
	return all
}

// holds reports whether a value has all that another one has: the keys of an object, the elements of a list.
func holds(after, before any) bool {
	switch before := before.(type) {
	case map[string]any:
		after, ok := after.(map[string]any)
		for key := range maps.Keys(before) {
			ok = ok && holds(after[key], before[key])
		}
		return ok
	case []any:
		after, ok := after.([]any)
		for _, b := range before {
			ok = ok && slices.ContainsFunc(after, func(a any) bool { return holds(a, b) })
		}
		return ok
	}
	return reflect.DeepEqual(after, before)
}

// wholeOutput checks that an output is absent or whole.
func (m *team) wholeOutput(kind killedJob, path, like string) {
	m.t.Helper()
	if _, err := os.Stat(path); kind.output == "" || errors.Is(err, fs.ErrNotExist) {
		return
	}
	if strings.HasSuffix(path, ".gguf") {
		if out, words, status := m.lathe("verify", path, m.model); status != exitOK {
			m.t.Errorf("verify %s: status %d\n%s%s", path, status, out, words)
		}
		return
	}
	if got, want := files(m.t, path), files(m.t, like); !slices.Equal(got, want) {
		m.t.Errorf("the folder has %q, not %q", got, want)
	}
	for _, name := range []string{"model.safetensors", "config.json"} {
		got, err := os.ReadFile(filepath.Join(path, name))
		want, err2 := os.ReadFile(filepath.Join(like, name))
		if err := errors.Join(err, err2); err != nil {
			m.t.Error(err)
		} else if name == "model.safetensors" && len(got) != len(want) || name == "config.json" && !json.Valid(got) {
			m.t.Errorf("%s has %d bytes, not %d", name, len(got), len(want))
		}
	}
}

// files lists the files below a folder.
func files(t *testing.T, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != root {
			list = append(list, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// leftovers lists temporary files and folders.
func leftovers(t *testing.T, root string) []string {
	t.Helper()
	return slices.DeleteFunc(files(t, root), func(path string) bool {
		return !regexp.MustCompile(`^(\.new-|\.lathe-new-|lathe-[a-z]+-)[0-9a-f]{16}$`).MatchString(filepath.Base(path))
	})
}
