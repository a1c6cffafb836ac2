package explorer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/durable"
)

// A destination is a file or folder that a job writes.
type destination struct {
	path    string
	folder  bool // a folder, which must not exist or be empty
	replace bool // an existing file may be replaced
}

// check returns why nothing can be written there: a folder that does not exist or is not writable, a file that exists and may not be
// replaced (ErrExists), or one that another job than self writes.
func (d destination) check(s *Snapshot, self JobID) error {
	for _, j := range s.Jobs {
		if j.ID != self && !j.State.Ended() && j.Writes != "" && sameFile(j.Writes, d.path) {
			return fmt.Errorf("%w: %s is written by another job, %s: choose another name, or wait until it has ended", ErrInvalid, d.path, j.Title)
		}
	}
	dir := filepath.Dir(filepath.Clean(d.path))
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no folder %s", ErrInvalid, dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrInvalid, dir)
	}
	switch info, err := os.Stat(d.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case d.folder && !info.IsDir():
		return fmt.Errorf("%w: %s is a file, not a folder", ErrInvalid, d.path)
	case d.folder:
		entries, err := os.ReadDir(d.path)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			return fmt.Errorf("%w: the folder %s is not empty", ErrInvalid, d.path)
		}
	case info.IsDir():
		return fmt.Errorf("%w: %s is a folder, not a file", ErrInvalid, d.path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", ErrInvalid, d.path)
	case !d.replace:
		return fmt.Errorf("%w: %s, %s of %s", ErrExists, d.path, format.Bytes(info.Size()), info.ModTime().Local().Format("2 Jan 2006 15:04"))
	}
	probe, err := durable.Create(filepath.Clean(d.path), 0o600)
	if durable.IsFull(err) { // the job waits for room
		return nil
	}
	if err != nil {
		return fmt.Errorf("nothing can be written to %s: %w", dir, err)
	}
	return probe.Close()
}

// sameFile reports whether two paths name one file, which need not exist.
func sameFile(a, b string) bool {
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// launchTo is launch for a job that writes a file or folder. Whether it may is checked here, and again when it runs: it may have waited for long.
func (e *Exploration) launchTo(a Actor, to destination, kind JobKind, title string, run func(context.Context, *monitor) error) (Receipt, error) {
	if err := to.check(e.Snapshot(), ""); err != nil {
		return Receipt{}, err
	}
	j := Job{Author: a.Name, Kind: kind, Title: title, CanPause: true, Writes: to.path}
	id, err := e.start(jobs.Foreground, j, func(ctx context.Context, m *monitor) error {
		if err := to.check(e.Snapshot(), m.id); err != nil {
			return err
		}
		return run(ctx, m)
	})
	return Receipt{Job: id}, err
}
