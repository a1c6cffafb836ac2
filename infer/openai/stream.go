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

// stream sends server-sent events, or nothing where the answer is to come as a whole.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	on      bool
	begun   bool
}

func (h *Handler) newStream(w http.ResponseWriter, on bool) *stream {
	return &stream{w: w, control: http.NewResponseController(w), on: on}
}

// traced has a stream tell its client while it waits for others.
func (s *stream) traced(ctx context.Context) context.Context {
	if !s.on {
		return ctx
	}
	return infer.WithQueueTrace(ctx, func(position int) {
		if position > 0 {
			_ = s.write(fmt.Sprintf(": waiting, %d in line\n\n", position)) // a client that has gone ends the request's context
		}
	})
}

// event sends one object. An error means that the client has gone.
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
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-cache")
		s.w.WriteHeader(http.StatusOK)
	}
	// A client that does not read holds up all others.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has deadlines
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// done ends a stream that went well.
func (s *stream) done() error {
	_ = s.write("data: [DONE]\n\n") // a client that has gone is nobody to tell
	return nil
}

// fail gives the error back while nothing was sent, and ends a stream under way with it.
func (s *stream) fail(err error) error {
	if !s.begun {
		return err
	}
	_ = s.event(asAPI(err).body())
	return nil
}
