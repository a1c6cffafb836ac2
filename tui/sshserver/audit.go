package sshserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lathe-llm/lathe/explorer"
)

// An Event is one line of the audit log: who did what and when. It contains no secrets and no text that people wrote: of a
// command only its kind and the ids in it, of a command line only its first words.
type Event struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`             // see the constants
	Session string    `json:"session,omitempty"` // "s12"
	Name    string    `json:"name,omitempty"`    // of the principal
	Role    string    `json:"role,omitempty"`
	Key     string    `json:"key,omitempty"` // fingerprint
	User    string    `json:"user,omitempty"`
	Remote  string    `json:"remote,omitempty"` // address and port
	What    string    `json:"what,omitempty"`   // what was done, requested or refused
	Result  string    `json:"result,omitempty"`
	Seconds float64   `json:"seconds,omitempty"` // duration
	// Dropped is the number of refusals that were omitted before this line because of their rate.
	Dropped int `json:"dropped,omitempty"`
}

// Kinds of events.
const (
	eventListen = "listen" // the server listens
	eventRefuse = "refuse" // a connection, an authentication or a request was refused
	eventOpen   = "open"   // a session was opened
	eventClose  = "close"  // a session was closed
	eventDo     = "do"     // a command to the exploration
	eventKeys   = "keys"   // the authorized_keys file changed
	eventStop   = "stop"   // the server stops
)

// Refusals cost a stranger nothing, so their rate in the log is limited.
const (
	refusalsPerSecond = 5
	refusalsAtOnce    = 50
)

// auditor writes events. Its methods may be called from any goroutine.
type auditor struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	w        io.Writer // nil: no audit log
	failing  bool
	refusals *rate.Limiter
	dropped  int
}

func newAuditor(w io.Writer, log *slog.Logger) *auditor {
	return &auditor{log: log, now: time.Now, w: w, refusals: rate.NewLimiter(refusalsPerSecond, refusalsAtOnce)}
}

// write adds the time and appends the event. A failure to write does not affect sessions and is logged once until a write
// succeeds.
func (a *auditor) write(e Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.w == nil {
		return
	}
	e.Time = a.now().UTC()
	if e.Event == eventRefuse {
		if !a.refusals.AllowN(e.Time, 1) {
			a.dropped++
			return
		}
		e.Dropped, a.dropped = a.dropped, 0
	}
	e.User, e.What, e.Result = short(e.User), short(e.What), short(e.Result)
	line, err := json.Marshal(e)
	if err == nil {
		_, err = a.w.Write(append(line, '\n'))
	}
	if err != nil && !a.failing {
		a.log.Error("audit log cannot be written", "err", err)
	}
	a.failing = err != nil
}

// short cleans and truncates text that a stranger chose.
func short(text string) string {
	const most = 120
	text = explorer.CleanName(text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// OpenAudit opens an audit log for appending; a new file is readable by its owner only.
func OpenAudit(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return f, nil
}

// describe returns a command's type and the ids in it: "Export subnet=s3".
func describe(c explorer.Command) string {
	v := reflect.Indirect(reflect.ValueOf(c))
	text := v.Type().Name()
	if v.Kind() != reflect.Struct {
		return text
	}
	for i := range v.NumField() {
		switch id := v.Field(i).Interface().(type) {
		case explorer.SubnetID:
			text += mention("subnet", string(id))
		case explorer.JobID:
			text += mention("job", string(id))
		case explorer.ChatID:
			text += mention("chat", string(id))
		case explorer.BenchID:
			text += mention("bench", string(id))
		}
	}
	return text
}

func mention(kind, id string) string {
	if id == "" {
		return ""
	}
	return fmt.Sprintf(" %s=%.40s", kind, id)
}

// outcome returns a word for a command's error, whose text may quote what people wrote.
func outcome(err error) string {
	for _, known := range []struct {
		err  error
		word string
	}{
		{nil, "ok"},
		{explorer.ErrForbidden, "forbidden"},
		{ErrFiles, "forbidden"},
		{ErrTooFast, "too fast"},
		{explorer.ErrStale, "stale"},
		{explorer.ErrReadOnly, "read-only"},
		{explorer.ErrNotFound, "not found"},
		{explorer.ErrInvalid, "invalid"},
	} {
		if errors.Is(err, known.err) {
			return known.word
		}
	}
	return "failed"
}

// commandWords returns the first words of a command line, at most two, that are names and not values.
func commandWords(args []string) string {
	var words []string
	for _, a := range args {
		plain := len(a) <= 20 && strings.Trim(a, "abcdefghijklmnopqrstuvwxyz-") == "" && !strings.HasPrefix(a, "-")
		if !plain || len(words) == 2 {
			break
		}
		words = append(words, a)
	}
	if len(words) == 0 {
		return "?"
	}
	return strings.Join(words, " ")
}
