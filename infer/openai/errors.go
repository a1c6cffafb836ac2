package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/lathe-llm/lathe/infer"
)

// apiError is an error in the interface's form.
type apiError struct {
	status  int
	code    string
	message string
	param   string // the field at fault; "" for none
}

func (e *apiError) Error() string { return e.message }

func problem(status int, code, format string, args ...any) error {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// wrong returns the error of a field that must be something else.
func wrong(param, must string) error {
	return &apiError{http.StatusBadRequest, "invalid_request_error", param + " must be " + must, param}
}

// unreadable returns the error of a body that does not decode.
func unreadable(err error) error {
	var own *apiError
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &kind):
		field := strings.TrimPrefix(kind.Field, "common.")
		if field == "" {
			return bad("the body must be an object")
		}
		return wrong(field, article(kind.Type))
	case errors.As(err, &syntax):
		return bad("the body is not valid JSON at byte %d: %v", syntax.Offset, syntax)
	}
	return bad("the body is not valid JSON: %v", err)
}

// article returns the JSON type that a Go type is decoded from.
func article(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return article(t.Elem())
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	default: // nothing for the others
	}
	return "an integer"
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
		return &apiError{status: http.StatusBadRequest, code: "context_length_exceeded", message: err.Error()}
	case errors.Is(err, infer.ErrBadToken), errors.Is(err, infer.ErrInvalid), errors.Is(err, infer.ErrTemplate):
		return &apiError{status: http.StatusBadRequest, code: "invalid_request_error", message: err.Error()}
	case errors.Is(err, infer.ErrNotFinite):
		return &apiError{status: http.StatusInternalServerError, code: "not_finite", message: err.Error()}
	case errors.Is(err, infer.ErrClosed), errors.Is(err, context.Canceled):
		return &apiError{status: http.StatusServiceUnavailable, code: "shutting_down", message: "the model is closed, or the request was cancelled"}
	case errors.Is(err, infer.ErrEngineCrashed):
		// Its text holds lines of the log and a path, which are for the operator of the server only.
		return &apiError{status: http.StatusInternalServerError, code: "engine_crashed", message: "the engine crashed; try again"}
	}
	return &apiError{status: http.StatusInternalServerError, code: "internal_error", message: err.Error()}
}

func (e *apiError) body() any {
	kind := "invalid_request_error"
	if e.status >= http.StatusInternalServerError {
		kind = "server_error"
	}
	var param any
	if e.param != "" {
		param = e.param
	}
	return map[string]any{"error": map[string]any{"message": e.message, "type": kind, "param": param, "code": e.code}}
}

// fail sends an error before anything else was sent. A stream sends its own.
func fail(w http.ResponseWriter, err error) {
	e := asAPI(err)
	send(w, e.status, e.body())
}

func send(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // a number that JSON does not have
		e := asAPI(err)
		status = e.status
		data, _ = json.Marshal(e.body()) // texts only
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client may have disconnected
}
