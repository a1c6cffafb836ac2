package openai

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Bounds of what a client may send.
const (
	maxBody           = 16 << 20
	maxPrompts        = 1024
	maxMessages       = 1 << 16
	maxStops          = 16
	maxTopLogProbs    = 20
	defaultMaxWaiting = 64
	defaultMaxTokens  = 16 // of text completions, as OpenAI has it

	// A body must arrive within bodyGrace, and one second more for each slowestBody bytes that have arrived.
	bodyGrace   = 10 * time.Second
	slowestBody = 32 << 10
)

// ErrNoKey means that an address beyond the loopback interface was requested without a key.
var ErrNoKey = errors.New("a key is needed to serve beyond this machine")

// Options describe how a model is served.
type Options struct {
	// Key is what clients must send as a bearer token; "" requires none, which Listen allows on loopback addresses only.
	Key string

	// Name is the model's id; "" means the name in its Info.
	Name string

	// MaxWaiting is the maximum number of requests at a time, including the running one; others are refused. 0 means 64.
	MaxWaiting int

	// Seed returns a seed for requests without one; nil means the current time.
	Seed func() uint64
}

// Handler serves a model. New returns one.
type Handler struct {
	model   infer.Model
	options Options
	created int64
	reading atomic.Int64 // bodies on their way
	active  atomic.Int64
	ids     atomic.Uint64
	mux     *http.ServeMux
	grace   time.Duration // bodyGrace, but in tests
}

// New returns a handler. The caller closes the model.
func New(m infer.Model, o Options) *Handler {
	if o.Name == "" {
		o.Name = m.Info().Name
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = defaultMaxWaiting
	}
	if o.Seed == nil {
		o.Seed = func() uint64 { return uint64(time.Now().UnixNano()) }
	}
	h := &Handler{model: m, options: o, created: time.Now().Unix(), mux: http.NewServeMux(), grace: bodyGrace}
	h.mux.HandleFunc("GET /health", h.health)
	h.mux.HandleFunc("GET /v1/models", h.models)
	h.mux.HandleFunc("GET /v1/models/{id...}", h.oneModel)
	h.mux.HandleFunc("POST /v1/completions", answer(h, (*Handler).completions))
	h.mux.HandleFunc("POST /v1/chat/completions", answer(h, (*Handler).chat))
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, problem(http.StatusNotFound, "not_found", "there is no %s %s here", r.Method, r.URL.Path))
	})
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.admit(r); err != nil {
		fail(w, err)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// admit checks the key, or without one the host.
func (h *Handler) admit(r *http.Request) error {
	if h.options.Key == "" {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !loopback(strings.Trim(host, "[]")) {
			return problem(http.StatusForbidden, "forbidden", "host %q is not this machine", r.Host)
		}
		return nil
	}
	if r.URL.Path == "/health" {
		return nil
	}
	got, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(h.options.Key))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return problem(http.StatusUnauthorized, "invalid_api_key", "the key is missing or wrong")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback())
}

// Listen opens the address, host:port. Without a key the host must be a loopback address, or localhost.
func Listen(address, key string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	if key == "" && !loopback(host) {
		return nil, fmt.Errorf("openai: %s: %w", address, ErrNoKey)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	return l, nil
}

// Serve serves until ctx is done, cancels the running answers and returns nil.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("openai: %w", err)
	case <-ctx.Done():
	}
	end()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		return fmt.Errorf("openai: %w", err)
	}
	return nil
}

// answer decodes a request's body and calls do, within the bounds on size, time and number. A request takes a place once its body has
// arrived: slow clients keep nobody waiting.
func answer[Request any](h *Handler, do func(*Handler, http.ResponseWriter, *http.Request, Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.reading.Add(1)
		request, err := decode[Request](w, r, h.grace)
		h.reading.Add(-1)
		if err != nil {
			fail(w, err)
			return
		}
		defer h.active.Add(-1)
		if h.active.Add(1) > int64(h.options.MaxWaiting) {
			w.Header().Set("Retry-After", "5")
			fail(w, problem(http.StatusTooManyRequests, "busy", "%d requests are already waiting", h.options.MaxWaiting))
			return
		}
		if err := do(h, w, r, request); err != nil {
			fail(w, err)
		}
	}
}

// patient is a body whose reads fail once it arrives too slowly.
type patient struct {
	io.Reader
	control *http.ResponseController
	end     time.Time // for what has been read
}

// Read implements [io.Reader].
func (p *patient) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(p.end) // not every connection supports deadlines
	n, err := p.Reader.Read(b)
	p.end = p.end.Add(time.Second * time.Duration(n) / slowestBody)
	return n, err
}

func decode[Request any](w http.ResponseWriter, r *http.Request, grace time.Duration) (Request, error) {
	var request Request
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return request, problem(http.StatusUnsupportedMediaType, "invalid_request_error", "the body must be application/json")
	}
	control := http.NewResponseController(w)
	body, err := io.ReadAll(&patient{http.MaxBytesReader(w, r.Body, maxBody), control, time.Now().Add(grace)})
	if err != nil {
		w.Header().Set("Connection", "close") // the rest of the body is not waited for
	} else {
		_ = control.SetReadDeadline(time.Time{}) // as above
	}
	var long *http.MaxBytesError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return request, problem(http.StatusRequestTimeout, "invalid_request_error", "the body arrives too slowly")
	case errors.As(err, &long):
		return request, problem(http.StatusRequestEntityTooLarge, "invalid_request_error", "the body is longer than %d MiB", maxBody>>20)
	case err != nil:
		return request, problem(http.StatusBadRequest, "invalid_request_error", "the body did not arrive: %v", err)
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return request, unreadable(err)
	}
	return request, nil
}

func (h *Handler) health(w http.ResponseWriter, _ *http.Request) {
	q := h.model.Queue()
	send(w, http.StatusOK, map[string]any{"status": "ok", "running": q.Running, "waiting": len(q.Waiting)})
}

type modelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Context int    `json:"context_length"`
}

func (h *Handler) entry() modelEntry {
	return modelEntry{h.options.Name, "model", h.created, "lathe", h.model.Info().Context}
}

func (h *Handler) models(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, map[string]any{"object": "list", "data": []modelEntry{h.entry()}})
}

func (h *Handler) oneModel(w http.ResponseWriter, r *http.Request) {
	if err := h.named(r.PathValue("id")); err != nil {
		fail(w, err)
		return
	}
	send(w, http.StatusOK, h.entry())
}

// named returns an error for a name that is not the model's: the answer would be attributed to the other model.
func (h *Handler) named(name string) error {
	if name != "" && name != h.options.Name {
		return problem(http.StatusNotFound, "model_not_found", "there is no model %q here, only %q", name, h.options.Name)
	}
	return nil
}

// fits returns an error for a text of more bytes than the tokens of the context have: nothing of it is computed.
func (h *Handler) fits(what string, size int) error {
	info := h.model.Info()
	if most := info.Context * info.LongestToken; most > 0 && size > most {
		return problem(http.StatusBadRequest, "context_length_exceeded", "%s %d bytes, more than the context of %d tokens can hold", what, size, info.Context)
	}
	return nil
}

func (h *Handler) newID(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, h.created, h.ids.Add(1))
}
