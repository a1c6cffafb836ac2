// Package durable writes files that a crash or a power failure leaves whole: after it, a path holds the old content or all of
// the new, and what was reported as written is there.
//
// A new file takes these steps, in this order:
//
//	create   a hidden temporary file in the directory of path
//	write    the content to it
//	sync     it, so that the content is on the disk before any name refers to it
//	rename   it to path, which replaces an old file in one step
//	sync     the directory, so that the new name is on the disk too
//
// The temporary files of a process that was killed are removed by the next one that writes to the directory.
//
// A failure of any step removes the temporary file and returns an error that names path. Up to the rename path holds what it
// held before; a failure after it means that the new file is there but may be gone after a power failure.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path by what write writes. A new file gets the permissions perm, before the umask.
func Write(path string, perm fs.FileMode, write func(io.Writer) error) error {
	return Disk{}.Write(path, perm, write)
}

// WriteFile replaces the file at path by data. A new file gets the permissions perm, before the umask.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Disk{}.WriteFile(path, data, perm)
}

// Copy replaces to by a copy of a file.
func Copy(from, to string, perm fs.FileMode) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	return Write(to, perm, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// WriteNew writes a file where none may be; the error wraps [fs.ErrExist] where something is.
func WriteNew(path string, data []byte, perm fs.FileMode) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: string(OpCreate), Path: path, Err: fs.ErrExist}
	}
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CommitNew()
}

// Create starts a file that will replace the one at path.
func Create(path string, perm fs.FileMode) (*File, error) { return Disk{}.Create(path, perm) }

// Rename moves a file or directory, whose content must be on the disk already, and forces the change of names to the disk. It
// replaces a file at to.
func Rename(from, to string) error { return Disk{}.Rename(from, to) }

// MkdirAll makes a directory and the parents that are missing, and forces their names to the disk.
func MkdirAll(path string, perm fs.FileMode) error { return Disk{}.MkdirAll(path, perm) }

// SyncName forces the name of a file or directory that is there to the disk, by a sync of the directory that it is in.
func SyncName(path string) error { return Disk{}.SyncName(path) }

// Write is [Write] on this disk.
func (d Disk) Write(path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	f, err := d.Create(path, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(f); err != nil {
		if named := (*fs.PathError)(nil); errors.As(err, &named) && named.Path == path {
			return err
		}
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return f.Commit()
}

// WriteFile is [WriteFile] on this disk.
func (d Disk) WriteFile(path string, data []byte, perm fs.FileMode) error {
	return d.Write(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Rename is [Rename] on this disk.
func (d Disk) Rename(from, to string) error {
	if err := d.rename(from, to, os.Rename); err != nil {
		return err
	}
	err := d.SyncName(to)
	if filepath.Dir(from) != filepath.Dir(to) {
		err = errors.Join(err, d.SyncName(from))
	}
	return err
}
