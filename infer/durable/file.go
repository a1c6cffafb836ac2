package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/internal/owner"
)

// File is a file that is being written. Nobody sees it at its path before [File.Commit].
//
//	f, err := durable.Create(path, 0o644)
//	if err != nil {
//		return err
//	}
//	defer f.Close()
//	… write to f …
//	return f.Commit()
type File struct {
	disk Disk
	path string
	temp *os.File
	mark *os.File // marks temp as this process's until it is renamed or removed; nil where there are no locks
	done bool     // committed or discarded
}

// Create is [Create] on this disk.
func (d Disk) Create(path string, perm fs.FileMode) (*File, error) {
	f := &File{disk: d, path: path}
	owner.Sweep(filepath.Dir(path))
	err := d.do(OpCreate, path, func() (err error) {
		for exists := false; !exists && err == nil; { // until no other process takes it for one without an owner
			if f.temp, err = os.OpenFile(temporary(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm); err != nil {
				return err
			}
			if f.mark, exists = owner.Mark(f.temp); !exists {
				err = f.temp.Close()
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// temporary returns a new hidden name in the directory of path. It does not contain the name of path, which may be as long as
// the file system allows.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), owner.NewFile+owner.Random())
}

// unmark gives up the ownership of the temporary file, which has been renamed or removed.
func (f *File) unmark() {
	if f.mark != nil {
		_ = f.mark.Close() // nothing is written to it
		f.mark = nil
	}
}

// Write appends to the file.
func (f *File) Write(p []byte) (n int, err error) {
	err = f.disk.do(OpWrite, f.path, func() (err error) {
		n, err = f.temp.Write(p)
		return err
	})
	return n, err
}

// Commit forces the file to the disk and puts it at its path, where it replaces an old one.
func (f *File) Commit() error {
	return f.commit(func() error { return f.disk.rename(f.temp.Name(), f.path, os.Rename) })
}

// CommitNew is [File.Commit] for a path where nothing may be; the error wraps [fs.ErrExist] where something is.
func (f *File) CommitNew() error {
	return f.commit(func() error { return f.disk.rename(f.temp.Name(), f.path, renameNew) })
}

// commit forces the file to the disk, publishes it and forces its name to the disk.
func (f *File) commit(publish func() error) error {
	if f.done {
		return &fs.PathError{Op: "commit", Path: f.path, Err: fs.ErrClosed}
	}
	err := f.disk.do(OpSync, f.path, f.temp.Sync)
	if err == nil {
		err = f.disk.do(OpClose, f.path, f.temp.Close)
	}
	if err == nil {
		err = publish()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	f.done = true
	f.unmark()
	return f.disk.SyncName(f.path)
}

// Close discards a file that was not committed. After [File.Commit] it does nothing.
func (f *File) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	closed := f.temp.Close()
	if errors.Is(closed, fs.ErrClosed) {
		closed = nil
	}
	removed := os.Remove(f.temp.Name())
	f.unmark()
	return errors.Join(closed, removed)
}
