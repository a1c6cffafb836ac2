package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/lathe-llm/lathe/infer"
)

// apiError is an error in the interface's form.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.message }

func problem(status int, code, format string, args ...any) error {
	return &apiError{status, code, fmt.Sprintf(format, args...)}
}

// bad is a request that cannot be granted as it is.
func bad(format string, args ...any) error {
	return problem(http.StatusBadRequest, "invalid_request_error", format, args...)
}

// asAPI gives every error its status.
func asAPI(err error) *apiError {
	var e *apiError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, infer.ErrContextFull):
		return &apiError{http.StatusBadRequest, "context_length_exceeded", err.Error()}
	case errors.Is(err, infer.ErrBadToken), errors.Is(err, infer.ErrInvalid):
		return &apiError{http.StatusBadRequest, "invalid_request_error", err.Error()}
	case errors.Is(err, infer.ErrClosed), errors.Is(err, context.Canceled):
		return &apiError{http.StatusServiceUnavailable, "shutting_down", "the model is being closed, or the request was given up"}
	case errors.Is(err, infer.ErrEngineCrashed):
		// Its text holds the log's last lines and a path: those are for the one who runs the server.
		return &apiError{http.StatusInternalServerError, "engine_crashed", "the engine crashed; try again"}
	}
	return &apiError{http.StatusInternalServerError, "internal_error", err.Error()}
}

func (e *apiError) body() any {
	kind := "invalid_request_error"
	if e.status >= http.StatusInternalServerError {
		kind = "server_error"
	}
	return map[string]any{"error": map[string]any{"message": e.message, "type": kind, "param": nil, "code": e.code}}
}

// fail sends an error where nothing was sent yet. A stream under way ends itself.
func fail(w http.ResponseWriter, err error) {
	e := asAPI(err)
	send(w, e.status, e.body())
}

func send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone is nobody to tell
}
