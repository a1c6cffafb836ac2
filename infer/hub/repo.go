package hub

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// ErrNotFound is wrapped where the hub has no such repository, revision or file.
	ErrNotFound = errors.New("not on the hub")
	// ErrDenied is wrapped where the hub requires a token, or another one.
	ErrDenied = errors.New("access denied: accept the model's terms on the hub, and set HF_TOKEN or run `hf auth login`")
	// ErrOffline is wrapped where a download is necessary and HF_HUB_OFFLINE forbids it.
	ErrOffline = errors.New("not in the cache, and HF_HUB_OFFLINE is set")
	// ErrAmbiguous is wrapped where a repository has several models.
	ErrAmbiguous = errors.New("no single model")
	// ErrParts is wrapped where a GGUF file is one of several parts, which are not joined here.
	ErrParts = errors.New("several parts")
	// ErrDamaged is wrapped where a download differs from the hub's description of it.
	ErrDamaged = errors.New("damaged")
)

// Repo names a repository of a model at a revision, and one GGUF file in it where File is not "", or a repository of a dataset.
type Repo struct {
	Owner, Name string
	Revision    string // a branch, a tag or a commit
	File        string
	Dataset     bool
}

// String returns owner/name, followed by @revision where it is not main, and /file where there is one.
func (r Repo) String() string {
	s := r.Owner + "/" + r.Name
	if r.Revision != defaultRevision {
		s += "@" + r.Revision
	}
	if r.File != "" {
		s += "/" + r.File
	}
	return s
}

// ID returns owner/name.
func (r Repo) ID() string { return r.Owner + "/" + r.Name }

const defaultRevision = "main"

// Parse parses owner/name[@revision][/file.gguf] and reports whether the text has that form.
func Parse(text string) (Repo, bool) {
	r := Repo{Revision: defaultRevision}
	fields := strings.SplitN(text, "/", 3)
	if len(fields) < 2 {
		return Repo{}, false
	}
	r.Owner = fields[0]
	name, revision, pinned := strings.Cut(fields[1], "@")
	r.Name = name
	rest := ""
	if len(fields) == 3 {
		if rest = fields[2]; rest == "" {
			return Repo{}, false
		}
	}
	if pinned {
		r.Revision = revision
		// A revision may have slashes of its own, as refs/pr/1 has.
		at := strings.LastIndexByte(rest, '/')
		switch fields := strings.SplitN(rest, "/", 3); {
		case revision == "refs" && len(fields) == 3: // refs/pr/1, and the rest names a file
			at = len(fields[0]) + 1 + len(fields[1])
		case revision == defaultRevision || isCommit(revision):
			at = -1
		}
		if at >= 0 && strings.HasSuffix(rest, ".gguf") {
			r.Revision, rest = r.Revision+"/"+rest[:at], rest[at+1:]
		} else if rest != "" && !strings.HasSuffix(rest, ".gguf") {
			r.Revision, rest = r.Revision+"/"+rest, ""
		}
	}
	r.File = rest
	segment := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	if !segment.MatchString(r.Owner) || !segment.MatchString(r.Name) || strings.HasSuffix(r.Name, ".gguf") {
		return Repo{}, false
	}
	if r.File != "" && !strings.HasSuffix(r.File, ".gguf") {
		return Repo{}, false
	}
	for _, s := range strings.Split(r.File, "/") {
		if r.File != "" && !segment.MatchString(s) {
			return Repo{}, false
		}
	}
	for _, p := range strings.Split(r.Revision, "/") {
		if !segment.MatchString(p) {
			return Repo{}, false
		}
	}
	return r, true
}

// modelPrefix begins the names of the folders of models in a cache.
const modelPrefix = "models--"

// folder returns the path of the repository in a cache.
func (r Repo) folder(cache string) string {
	kind := modelPrefix
	if r.Dataset {
		kind = "datasets--"
	}
	return filepath.Join(cache, kind+r.Owner+"--"+r.Name)
}

func (r Repo) fail(err error) error { return fmt.Errorf("hub: %s: %w", r, err) }

// isCommit reports whether a revision is the hash of a commit rather than a branch or a tag.
func isCommit(revision string) bool { return len(revision) == 40 && isHex(revision) }

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == "" && s != ""
}
