// Package plain writes errors for people: what is wrong and what was expected, in place of the texts of Go's packages.
package plain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Error returns the text of an error for people: the errors of Go's packages in it, which name functions and types, are replaced
// by what is wrong and what was expected.
func Error(err error) string {
	if err == nil {
		return ""
	}
	return replaced(err.Error(), err)
}

// replaced replaces the texts of the errors that err is made of.
func replaced(text string, err error) string {
	if plain, ok := inWords(err); ok {
		raw := err.Error()
		at := strings.LastIndex(text, raw)
		if raw == "" || at < 0 {
			return text
		}
		before := text[:at]
		if path, ok := pathOf(err); ok && strings.HasSuffix(before, path+": ") { // named already
			before = strings.TrimSuffix(before, path+": ")
		}
		return before + plain + text[at+len(raw):]
	}
	switch err := err.(type) { //nolint:errorlint // each error of the tree is looked at
	case interface{ Unwrap() error }:
		if inner := err.Unwrap(); inner != nil {
			return replaced(text, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range err.Unwrap() {
			if inner != nil {
				text = replaced(text, inner)
			}
		}
	}
	return text
}

// pathOf returns the path that an error is about.
func pathOf(err error) (string, bool) {
	switch err := err.(type) { //nolint:errorlint // the error itself, not what it wraps
	case *fs.PathError:
		return err.Path, true
	case *os.LinkError:
		return err.New, true
	}
	return "", false
}

// inWords returns the text for an error of Go's packages; ok is false for another error.
func inWords(err error) (text string, ok bool) {
	for _, end := range []error{io.ErrUnexpectedEOF, io.EOF} {
		if err == end { //nolint:errorlint // the error itself, not what it wraps
			return "the data ends early: the file is truncated, or of another kind", true
		}
	}
	if err == os.ErrDeadlineExceeded { //nolint:errorlint // the same
		return "no answer in time", true
	}
	switch err := err.(type) { //nolint:errorlint // the same
	case *fs.PathError:
		return pathWords(err), true
	case *os.LinkError:
		return fmt.Sprintf("%s: it cannot be written: %s", err.New, reason(err.Err)), true
	case *os.SyscallError:
		return reason(err.Err), true
	case *strconv.NumError:
		return numberWords(err), true
	case *json.SyntaxError:
		return fmt.Sprintf("not valid JSON at byte %d", err.Offset), true
	case *json.UnmarshalTypeError:
		return jsonWords(err), true
	case *exec.Error:
		return fmt.Sprintf("the program %s is not installed, or is not in $PATH", err.Name), true
	case *exec.ExitError:
		return fmt.Sprintf("it ended with %s", strings.Replace(err.ProcessState.String(), "exit status", "status", 1)), true
	case *url.Error:
		return fmt.Sprintf("%s: %s", err.URL, Error(err.Err)), true
	case syscall.Errno:
		text := reason(err)
		return text, text != err.Error()
	case *net.OpError:
		return networkWords(err), true
	case *net.DNSError:
		return fmt.Sprintf("the host %s is not known", err.Name), true
	case *net.AddrError:
		return fmt.Sprintf("%s: %s", err.Addr, err.Err), true
	}
	return "", false
}

func pathWords(err *fs.PathError) string {
	path := err.Path
	if path == "" {
		path = `""`
	}
	writes := err.Op == "mkdir" || err.Op == "write" || err.Op == "remove" || err.Op == "truncate" || err.Op == "sync" || err.Op == "createtemp"
	switch {
	case errors.Is(err.Err, fs.ErrNotExist):
		return path + ": no such file or folder"
	case errors.Is(err.Err, fs.ErrExist):
		return path + ": exists already"
	case errors.Is(err.Err, syscall.EISDIR):
		return path + ": a folder, where a file is expected"
	case errors.Is(err.Err, syscall.ENOTDIR):
		return path + ": a part of the path is a file, where a folder is expected"
	case errors.Is(err.Err, fs.ErrPermission) && writes:
		return path + ": no permission to write there"
	case errors.Is(err.Err, fs.ErrPermission):
		return path + ": no permission to open it"
	case errors.Is(err.Err, syscall.EINVAL) && strings.ContainsRune(path, 0):
		return strconv.Quote(path) + ": not a path"
	case errors.Is(err.Err, fs.ErrClosed):
		return path + ": it is closed"
	}
	return path + ": " + reason(err.Err)
}

// reason returns the text of an error of the system.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ENAMETOOLONG):
		return "the name is too long"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "no space left on the disk"
	case errors.Is(err, syscall.EROFS):
		return "the disk is read-only"
	case errors.Is(err, syscall.EXDEV):
		return "it is on another disk"
	case errors.Is(err, fs.ErrNotExist):
		return "no such file or folder"
	case errors.Is(err, fs.ErrPermission):
		return "no permission"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there"
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return Error(err)
}

func numberWords(err *strconv.NumError) string {
	kind := "a number"
	switch {
	case strings.HasPrefix(err.Func, "ParseBool"):
		kind = "true or false"
	case strings.HasPrefix(err.Func, "Atoi"), strings.HasPrefix(err.Func, "ParseInt"):
		kind = "a whole number"
	case strings.HasPrefix(err.Func, "ParseUint"):
		kind = "a whole number of at least 0"
	}
	if errors.Is(err.Err, strconv.ErrRange) {
		return fmt.Sprintf("%q is out of range for %s", err.Num, kind)
	}
	return fmt.Sprintf("%q is not %s", err.Num, kind)
}

// jsonWords describes a value in JSON of another type than its field has.
func jsonWords(err *json.UnmarshalTypeError) string {
	found, _, _ := strings.Cut(err.Value, " ")
	found = map[string]string{"string": "text", "number": "a number", "bool": "true or false", "object": "an object", "array": "a list"}[found]
	if found == "" {
		found = err.Value
	}
	expected := "another value"
	if err.Type != nil {
		switch kind := err.Type.Kind().String(); {
		case kind == "string":
			expected = "text"
		case kind == "bool":
			expected = "true or false"
		case kind == "slice" || kind == "array":
			expected = "a list"
		case kind == "struct" || kind == "map" || kind == "ptr":
			expected = "an object"
		case strings.HasPrefix(kind, "float"):
			expected = "a number"
		case strings.HasPrefix(kind, "int"):
			expected = "a whole number"
		case strings.HasPrefix(kind, "uint"):
			expected = "a whole number of at least 0"
		}
	}
	if number, ok := strings.CutPrefix(err.Value, "number "); ok && found == "a number" && strings.Contains(expected, "number") {
		found = "the number " + number
	}
	field := "the whole"
	if err.Field != "" {
		field = "field " + err.Field
	}
	return fmt.Sprintf("%s is %s, where %s is expected (JSON, byte %d)", field, found, expected, err.Offset)
}

func networkWords(err *net.OpError) string {
	at := ""
	switch {
	case err.Addr != nil:
		at = err.Addr.String()
	case err.Source != nil:
		at = err.Source.String()
	}
	what := map[string]string{"listen": "cannot listen on", "dial": "cannot connect to", "read": "the connection broke:", "write": "the connection broke:"}[err.Op]
	if what == "" {
		what = err.Op
	}
	return strings.TrimSuffix(strings.TrimSpace(what+" "+at), ":") + ": " + reason(err.Err)
}
