package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// writeTimeout is how long a client may take to read what it is sent.
const writeTimeout = 30 * time.Second

// stream sends server-sent events, or nothing if on is false and the answer is sent as a whole.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	on      bool
	begun   bool
}

func (h *Handler) newStream(w http.ResponseWriter, on bool) *stream {
	return &stream{w: w, control: http.NewResponseController(w), on: on}
}

// traced returns a context with which a stream reports its queue position to its client.
func (s *stream) traced(ctx context.Context) context.Context {
	if !s.on {
		return ctx
	}
	return infer.WithQueueTrace(ctx, func(position int) {
		if position > 0 {
			_ = s.write(fmt.Sprintf(": waiting, position %d in the queue\n\n", position)) // a disconnected client ends the request's context
		}
	})
}

// event sends one object. An error means that the client has disconnected.
func (s *stream) event(body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.write("data: " + string(data) + "\n\n")
}

func (s *stream) write(text string) error {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		s.w.Header().Set("Cache-Control", "no-cache")
		s.w.WriteHeader(http.StatusOK)
	}
	// A client that does not read blocks all others.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer supports deadlines
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// done ends a complete stream.
func (s *stream) done() error {
	_ = s.write("data: [DONE]\n\n") // the client may have disconnected
	return nil
}

// fail returns the error if nothing was sent yet, and else sends it as the last event.
func (s *stream) fail(err error) error {
	if !s.begun {
		return err
	}
	_ = s.event(asAPI(err).body())
	return nil
}
