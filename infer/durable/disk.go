package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Disk carries out the operations on the file system. The zero value is the one to use; a test that needs faults sets Before.
type Disk struct {
	// Before, unless nil, is called before each operation with the path that it is for: the destination, never a temporary
	// file. The operation fails with the error that it returns.
	Before func(op Op, path string) error
}

// Op is an operation on the file system.
type Op string

// The operations that [Disk.Before] is called for.
const (
	OpCreate  Op = "create"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpClose   Op = "close"
	OpRename  Op = "rename"
	OpSymlink Op = "symlink"
	OpMkdir   Op = "mkdir"
	OpSyncDir Op = "sync directory of"
)

// do carries out an operation for path. Its error names path instead of a temporary file.
func (d Disk) do(op Op, path string, operation func() error) error {
	var err error
	if d.Before != nil {
		err = d.Before(op, path)
	}
	if err == nil {
		err = operation()
	}
	if err == nil {
		return nil
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	return &fs.PathError{Op: string(op), Path: path, Err: err}
}

// rename moves from to to by os.Rename or renameNew.
func (d Disk) rename(from, to string, by func(from, to string) error) error {
	return d.do(OpRename, to, func() error { return by(from, to) })
}

// renameNew moves a file to a path where nothing is. Of several processes that do so at a time one succeeds, on file systems
// that have hard links.
func renameNew(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

// Sync forces the content of an open file to the disk: the step before a [Disk.Rename] of a file that grew over several runs.
func (d Disk) Sync(f *os.File) error { return d.do(OpSync, f.Name(), f.Sync) }

// Symlink makes path a symbolic link to target; it replaces a file or link at path.
func (d Disk) Symlink(target, path string) error {
	temp := temporary(path)
	if err := d.do(OpSymlink, path, func() error { return os.Symlink(target, temp) }); err != nil {
		return err
	}
	if err := d.rename(temp, path, os.Rename); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return d.SyncName(path)
}

// MkdirAll is [MkdirAll] on this disk.
func (d Disk) MkdirAll(path string, perm fs.FileMode) error {
	var missing []string
	for dir := filepath.Clean(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		missing = append(missing, dir)
	}
	err := d.do(OpMkdir, path, func() error { return os.MkdirAll(path, perm) })
	for _, dir := range missing {
		if err == nil {
			err = d.SyncName(dir)
		}
	}
	return err
}

// SyncName is [SyncName] on this disk.
func (d Disk) SyncName(path string) error {
	return d.do(OpSyncDir, path, func() error { return syncDir(filepath.Dir(path)) })
}

// syncDir forces the names in a directory to the disk. Windows has no way to do so, some file systems have none either, and a
// directory that may be written but not read cannot be opened for it; none of these is an error.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}
