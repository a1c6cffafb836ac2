package llamaserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Bounds of what a server sends.
const (
	maxReply = 64 << 20
	maxLine  = 4 << 20 // of a stream: an event with infer.MaxTop tokens has about 200 KB
)

// client sends requests to a server.
type client struct {
	base, key string
	http      *http.Client
}

func newClient(base, key string) *client {
	return &client{base: base, key: key, http: &http.Client{
		Transport:     &http.Transport{Proxy: nil, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// connectionError is a connection that cannot be made, or that ends before the reply does.
type connectionError struct{ cause error }

func (e *connectionError) Error() string {
	return "the connection to the server: " + oneLine(e.cause.Error())
}
func (e *connectionError) Unwrap() error { return e.cause }

// statusError is a reply that reports an error.
type statusError struct {
	path, message string
	status        int
}

func (e *statusError) Error() string {
	if e.status == http.StatusUnauthorized {
		return "the server refuses the key: " + e.message + " (LLAMA_API_KEY is the key that is sent)"
	}
	return fmt.Sprintf("the server answers %s with status %d: %s", e.path, e.status, e.message)
}

// replyError is a reply that cannot be used. field is the path of the reply's field, "" for the reply as a whole.
func replyError(path, field, format string, args ...any) error {
	if field != "" {
		path += ", field " + field
	}
	return fmt.Errorf("unusable reply of the server to %s: %s", path, fmt.Sprintf(format, args...))
}

func oneLine(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func (c *client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("%w: %w", infer.ErrInvalid, err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	// No request changes anything on the server. Servers close connections after a number of requests or a time without one; a request that
	// is on its way then is sent again on another connection, which the transport does with this key. It is not sent.
	r.Header["Idempotency-Key"] = nil
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	reply, err := c.http.Do(r)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if reply.StatusCode == http.StatusOK {
		return reply, nil
	}
	defer func() { _ = reply.Body.Close() }() // only read
	return nil, failure(path, reply)
}

// lost returns the error of a connection that failed, or why ctx ended it.
func (c *client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &connectionError{err}
}

// failure reads the error of a reply.
func failure(path string, reply *http.Response) error {
	const most = 1 << 16
	data, _ := io.ReadAll(io.LimitReader(reply.Body, most)) // what has arrived
	var failed struct {
		Error struct{ Message string }
	}
	message := ""
	if err := json.Unmarshal(data, &failed); err == nil {
		message = failed.Error.Message
	}
	if message == "" {
		message = string(data)
	}
	return &statusError{path, oneLine(message), reply.StatusCode}
}

// post sends a request and decodes the reply.
func (c *client) post(ctx context.Context, path string, body, reply any) error {
	return c.ask(ctx, http.MethodPost, path, body, reply)
}

func (c *client) ask(ctx context.Context, method, path string, body, reply any) error {
	r, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(r.Body, maxReply+1))
	switch {
	case err != nil:
		return c.lost(ctx, err)
	case len(data) > maxReply:
		return replyError(path, "", "longer than %d bytes", maxReply)
	}
	return decode(path, data, reply)
}

// decode decodes a reply. Its error names the field that does not fit.
func decode(path string, data []byte, reply any) error {
	err := json.Unmarshal(data, reply)
	if mismatch := (*json.UnmarshalTypeError)(nil); errors.As(err, &mismatch) {
		return replyError(path, mismatch.Field, "a JSON %s", mismatch.Value)
	}
	if err != nil {
		return replyError(path, "", "%s", oneLine(err.Error()))
	}
	return nil
}

// stream sends a request and passes the events of the reply to take, until take returns true or an error.
func (c *client) stream(ctx context.Context, path string, body any, take func(data []byte) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the server's work
	r, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }() // only read
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(make([]byte, 1<<12), maxLine)
	for lines.Scan() {
		line := lines.Bytes()
		if rest, ok := bytes.CutPrefix(line, []byte("error:")); ok {
			return replyError(path, "", "%s", oneLine(string(rest)))
		}
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		if done, err := take(bytes.TrimSpace(data)); done || err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return replyError(path, "", "an event longer than %d bytes", maxLine)
	case err != nil:
		return c.lost(ctx, err)
	}
	return c.lost(ctx, io.ErrUnexpectedEOF)
}

// health returns the status of /health: 200 once the model is loaded, 503 before.
func (c *client) health(ctx context.Context) (int, error) {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := c.send(limited, http.MethodGet, "/health", nil)
	if refused := (*statusError)(nil); errors.As(err, &refused) {
		return refused.status, nil
	}
	if err != nil {
		return 0, err
	}
	return r.StatusCode, r.Body.Close()
}
