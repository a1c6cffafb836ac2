// Package environ completes the environment of the process when the program starts, before other packages read it: HOME is
// set from the user database where it is missing, and variables that name folders are expanded as a shell would expand them.
// A service manager or a container's environment file passes a ~ and a $VARIABLE as they are written.
//
// The package imports little, so that it is initialised before k8s.io/klog and all that logs with it: go-xla looks for the home
// folder in its initialisation, and logs to standard error if there is none. In particular it must not import regexp. It logs the same if
// there is no /etc/ld.so.conf, as in small containers, so standard error is hidden from initialisation then; package log has its own.
package environ

import (
	"errors"
	"fmt"
	"io/fs"
	_ "log" // takes standard error before it is hidden
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// NoHome is the value of HOME if the user has no home folder: nothing can be created below it.
const NoHome = os.DevNull

// folders are the variables that are expanded.
var folders = []string{
	"TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH",
	"LATHE_CACHE", "LATHE_WORKSPACES", "LATHE_SCRATCH", "LATHE_GPU_LIBRARIES",
}

var problems error

// hidden is standard error while os.Stderr is another file.
var hidden *os.File

func init() {
	problems = complete()
	if _, err := os.Stat("/etc/ld.so.conf"); errors.Is(err, fs.ErrNotExist) {
		if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
			hidden, os.Stderr = os.Stderr, null
		}
	}
}

// Initialised shows standard error again, once all packages are initialised.
func Initialised() {
	if hidden != nil {
		_ = os.Stderr.Close() // the null device
		hidden, os.Stderr = nil, hidden
	}
}

// Err returns the errors of variables that cannot be expanded, each with the variable's name.
func Err() error { return problems }

// complete sets HOME and expands the variables of folders.
func complete() (err error) {
	if home := os.Getenv("HOME"); !filepath.IsAbs(home) {
		home = NoHome
		if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
			home = u.HomeDir
		}
		err = errors.Join(err, os.Setenv("HOME", home))
	}
	for _, name := range folders {
		value := os.Getenv(name)
		full, problem := expand(value)
		if problem != nil {
			err = errors.Join(err, fmt.Errorf("%s=%s: %w", name, value, problem))
			continue
		}
		if full != value {
			err = errors.Join(err, os.Setenv(name, full))
		}
	}
	return err
}

// expand replaces a leading ~ or ~user by a home folder, and $NAME and ${NAME} by the values of variables.
func expand(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		name, below, _ := strings.Cut(rest, "/")
		home := os.Getenv("HOME")
		if name != "" {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			home = u.HomeDir
		}
		if !filepath.IsAbs(home) || home == NoHome {
			return "", errors.New("the user has no home folder")
		}
		path = filepath.Join(home, below)
	}
	var err error
	path = os.Expand(path, func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			err = fmt.Errorf("the variable %s is not set", name)
		}
		return value
	})
	return path, err
}
