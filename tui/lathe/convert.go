package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/hub"
)

// convertResult is what `convert` writes with --json.
type convertResult struct {
	Source string `json:"source"`
	Commit string `json:"commit,omitempty"` // of a repository on the hub
	convert.Report
	Seconds float64 `json:"seconds"`
}

func (a *app) convertCommand() *cobra.Command {
	var out outFlags
	cmd := &cobra.Command{
		Use:   "convert SOURCE",
		Short: "Convert a Hugging Face model to a GGUF file",
		Long: "SOURCE is a folder with config.json, safetensors files and a tokenizer, or a repository on the hub: owner/name, or\n" +
			"owner/name@revision for a branch, tag or commit other than main. Repositories are downloaded to the cache that Hugging\n" +
			"Face's own programs use; HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and HF_ENDPOINT are respected. Pickled weights are refused.\n\n" +
			"Every command that takes MODEL also takes such a folder or repository, converts it once and stores the file in lathe's\n" +
			"cache.",
		Example: "  lathe convert ./SmolLM2-135M -o smol.gguf\n  lathe convert HuggingFaceTB/SmolLM2-135M -o smol.gguf --type Q8_0",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out.path == "" || out.path == toStdout {
				return usage(errors.New("-o FILE is missing"))
			}
			if err := out.check(); err != nil {
				return err
			}
			return a.convertTo(cmd.Context(), args[0], out)
		},
	}
	out.add(cmd)
	return cmd
}

func (a *app) convertTo(ctx context.Context, source string, out outFlags) error {
	began := time.Now()
	s, err := a.lookUp(ctx, source)
	if err != nil {
		return err
	}
	if s.gguf != "" {
		f, err := gguf.Open(s.gguf)
		if err != nil { // missing, or something else
			return input(err)
		}
		if err := f.Close(); err != nil {
			return err
		}
		return input(fmt.Errorf("%s is already a GGUF file: %s", source, s.gguf))
	}
	r := convertResult{Source: source, Commit: s.commit}
	if r.Report, err = a.convertFolder(ctx, s, out.path, out.typ); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	return a.result(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %s, %s, %s\n", r.Path, r.Arch, format.Bytes(r.Bytes), format.Counted(r.Tensors, "tensor"), format.Clock(time.Since(began)))
		fallbackWords(w, r.Fallbacks)
		noteWords(w, r.Notes)
	})
}

// noteWords writes what llama.cpp computes in another way than transformers.
func noteWords(w io.Writer, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
}

// source is where a model comes from: a GGUF file, or a folder to convert.
type source struct {
	gguf, dir    string
	name, commit string // of the folder's model
}

// lookUp finds a source on this machine or, if no file or folder has that name, on the hub.
func (a *app) lookUp(ctx context.Context, text string) (source, error) {
	if text == "" {
		return source{}, usage(errors.New("no model is named: an empty text"))
	}
	info, err := os.Stat(text)
	switch {
	case err == nil && info.IsDir():
		full, err := filepath.Abs(text)
		return source{dir: text, name: filepath.Base(full)}, err
	case err == nil:
		return source{gguf: text}, nil
	}
	repo, ok := hub.Parse(text)
	if !ok || !errors.Is(err, os.ErrNotExist) {
		return source{gguf: text}, nil // opening it returns the error
	}
	p := a.newMeter("download " + repo.String())
	defer p.clear()
	var s hub.Snapshot
	err = a.untilRoom(ctx, "download "+repo.String(), func() (err error) {
		s, err = hub.New(a.getenv).Fetch(ctx, repo, func(q hub.Progress) { p.at(q.Done, q.Total, q.File) })
		return err
	})
	if err != nil && isUnwritable(err, "") {
		err = unwritable(err, "HF_HOME")
	}
	if err != nil {
		return source{}, err
	}
	if s.File != "" {
		return source{gguf: filepath.Join(s.Dir, s.File)}, nil
	}
	return source{dir: s.Dir, name: repo.Name, commit: s.Commit}, nil
}

func (a *app) convertFolder(ctx context.Context, s source, dst, typ string) (convert.Report, error) {
	p := a.newMeter("convert " + s.name)
	defer p.clear()
	var r convert.Report
	err := a.untilRoom(ctx, p.title, func() (err error) {
		r, err = convert.Process(ctx, s.dir, dst, convert.Options{Type: typ, Name: s.name, Progress: func(done, total int64) { p.at(done, total, "") }})
		return err
	})
	return r, err
}

// local returns the GGUF file of a model: the file itself, or the one that a folder or a repository on the hub is converted
// to, once, in the cache.
func (a *app) local(ctx context.Context, model string) (string, error) {
	s, err := a.lookUp(ctx, model)
	if err != nil || s.gguf != "" {
		return s.gguf, err
	}
	path, err := a.convertedPath(s)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		if isUnwritable(err, dir) {
			err = unwritable(err, cacheVariable)
		}
		return "", output{err}
	}
	r, err := a.convertFolder(ctx, s, path, "")
	fallbackWords(a.stderr, r.Fallbacks)
	if isUnwritable(err, dir) {
		err = unwritable(err, cacheVariable)
	}
	noteWords(a.stderr, r.Notes)
	return path, err
}

// convertedPath returns the path in the cache of the file that a folder is converted to.
func (a *app) convertedPath(s source) (string, error) {
	key, err := folderKey(s.dir)
	if err != nil {
		return "", err
	}
	return a.inCache("converted", s.name+"-"+key+".gguf")
}

// conversion is the version of the conversion: files in the cache that an older one wrote are not used.
const conversion = 3

// folderKey returns a hash of a folder's path and of the names, sizes and times of its files.
func folderKey(dir string) (string, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, conversion, full)
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // follows links
		if errors.Is(err, os.ErrNotExist) || err == nil && info.IsDir() {
			continue
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, e.Name(), info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// meter shows the progress, in bytes, of work that is not a job.
type meter struct {
	progress
	title string
	first int64 // bytes done at the first call
	began time.Time
}

func (a *app) newMeter(title string) *meter {
	return &meter{progress: progress{w: a.stderr, live: a.animates(), now: time.Now}, title: title}
}

// at shows how many bytes are done.
func (m *meter) at(done, total int64, step string) {
	if m.began.IsZero() {
		m.began, m.first = m.now(), done
	}
	p := explorer.Progress{Done: float64(done), Total: float64(total), Unit: "bytes", Step: step}
	if spent := m.now().Sub(m.began).Seconds(); spent > 0 && done > m.first {
		p.Rate = float64(done-m.first) / spent
		p.Left = time.Duration(float64(total-done) / p.Rate * float64(time.Second))
	}
	m.show(explorer.Job{Title: m.title, State: explorer.Running, Progress: p})
}
