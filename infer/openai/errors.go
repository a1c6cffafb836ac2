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

// bad returns the error of an invalid request.
func bad(format string, args ...any) error {
	return problem(http.StatusBadRequest, "invalid_request_error", format, args...)
}

// asAPI converts an error to one with a status.
func asAPI(err error) *apiError {
	var e *apiError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, infer.ErrContextFull):
		return &apiError{http.StatusBadRequest, "context_length_exceeded", err.Error()}
	case errors.Is(err, infer.ErrBadToken), errors.Is(err, infer.ErrInvalid), errors.Is(err, infer.ErrTemplate):
		return &apiError{http.StatusBadRequest, "invalid_request_error", err.Error()}
	case errors.Is(err, infer.ErrClosed), errors.Is(err, context.Canceled):
		return &apiError{http.StatusServiceUnavailable, "shutting_down", "the model is closed, or the request was cancelled"}
	case errors.Is(err, infer.ErrEngineCrashed):
		// Its text holds lines of the log and a path, which are for the operator of the server only.
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

// fail sends an error before anything else was sent. A stream sends its own.
func fail(w http.ResponseWriter, err error) {
	e := asAPI(err)
	send(w, e.status, e.body())
}

func send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have disconnected
}
