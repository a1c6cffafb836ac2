package openai

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

func TestAccess(t *testing.T) {
	s, _ := serve(t, Options{Key: "secret"}, fake.Options{})
	for header, want := range map[string]int{"": 401, "Bearer wrong": 401, "secret2": 401, "Bearer secret": 200} {
		if status, _ := call(t, s, "GET", "/v1/models", "", "Authorization", header); status != want {
			t.Errorf("%q: %d, want %d", header, status, want)
		}
	}
	if status, _ := call(t, s, "GET", "/health", ""); status != 200 {
		t.Errorf("health needs a key: %d", status)
	}
	open, _ := serve(t, Options{}, fake.Options{})
	for host, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:8080": 200, "evil.example": 403, "10.0.0.1:80": 403} {
		if status, _ := call(t, open, "GET", "/v1/models", "", "Host", host); status != want {
			t.Errorf("host %s: %d, want %d", host, status, want)
		}
	}
	for address, ok := range map[string]bool{"127.0.0.1:0": true, "localhost:0": true, "0.0.0.0:0": false, ":0": false, "example.com:0": false, "nonsense": false} {
		l, err := Listen(address, "")
		if (err == nil) != ok || (!ok && address != "nonsense" && !errors.Is(err, ErrNoKey)) {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			l.Close()
		}
	}
	l, err := Listen(":0", "secret")
	if err != nil {
		t.Errorf("with a key: %v", err)
	} else {
		l.Close()
	}
}

// TestQueue blocks one answer while another waits, and a third is refused.
func TestQueue(t *testing.T) {
	steps := make(chan string)
	s, m := serve(t, Options{MaxWaiting: 2}, fake.Options{Gate: func(ctx context.Context, step string) error {
		if step == "load" {
			return nil
		}
		select {
		case steps <- step:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	body := `{"prompt":"A","max_tokens":2,"temperature":0,"stream":true}`
	type result struct {
		data     []map[string]any
		comments []string
		done     bool
	}
	start := func() chan result {
		out := make(chan result, 1)
		go func() {
			data, comments, done := events(t, post(t.Context(), t, s, "/v1/completions", body).Body)
			out <- result{data, comments, done}
		}()
		return out
	}
	first := start()
	if step := <-steps; step != "prompt" {
		t.Fatalf("step %q", step)
	}
	second := start()
	eventually(t, "a request in the queue", func() bool { return len(m.Queue().Waiting) > 0 })
	if _, h := call(t, s, "GET", "/health", ""); at(t, h, "running") != "generate" || at(t, h, "waiting") != 1.0 {
		t.Errorf("health %v", h)
	}
	if status, got := call(t, s, "POST", "/v1/completions", body); status != http.StatusTooManyRequests {
		t.Errorf("third: %d %v", status, got)
	}
	release := make(chan struct{})
	go func() {
		for {
			select {
			case <-steps:
			case <-release:
				return
			}
		}
	}()
	if r := <-first; !r.done || len(r.comments) != 0 {
		t.Errorf("first: %+v", r)
	}
	if r := <-second; !r.done || len(r.comments) == 0 || !strings.Contains(r.comments[0], "position 1 in the queue") {
		t.Errorf("second: %+v", r)
	}
	close(release)
}

// TestClientGoes: when the client disconnects, the model stops.
func TestClientGoes(t *testing.T) {
	s, m := serve(t, Options{}, fake.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	response := post(ctx, t, s, "/v1/completions", `{"prompt":"A","max_tokens":1000000,"temperature":1,"stream":true}`)
	if _, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, "the model's end", func() bool { return m.Queue().Running == "" })
}

func TestModelFails(t *testing.T) {
	failing := map[string]error{"crash": infer.ErrEngineCrashed, "closed": infer.ErrClosed, "other": errors.New("odd")}
	for name, cause := range failing {
		s, _ := serve(t, Options{}, fake.Options{Fail: func(call string) error {
			if call == "generate" {
				return cause
			}
			return nil
		}})
		status, got := call(t, s, "POST", "/v1/completions", `{"prompt":"x"}`)
		if want := map[string]int{"crash": 500, "closed": 503, "other": 500}[name]; status != want || at(t, got, "error", "type") != "server_error" {
			t.Errorf("%s: %d %v", name, status, got)
		}
	}
	// What a template refuses is the client's error, with the template's reason.
	refusing, _ := serve(t, Options{}, fake.Options{Fail: func(call string) error {
		if call == "prompt" {
			return fmt.Errorf("%w: it refuses the conversation: roles must alternate", infer.ErrTemplate)
		}
		return nil
	}})
	for _, stream := range []string{"false", "true"} {
		status, got := call(t, refusing, "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"stream":`+stream+`}`)
		if status != 400 || at(t, got, "error", "type") != "invalid_request_error" ||
			at(t, got, "error", "message") != "chat template: it refuses the conversation: roles must alternate" {
			t.Errorf("stream %s: %d %v", stream, status, got)
		}
	}
	// After the first event of a stream the error is an event too, and no end is sent.
	tokens := 0
	s, _ := serve(t, Options{}, fake.Options{Gate: func(_ context.Context, step string) error {
		if step == "token" {
			if tokens++; tokens == 3 {
				return infer.ErrEngineCrashed
			}
		}
		return nil
	}})
	data, _, done := events(t, post(t.Context(), t, s, "/v1/completions", `{"prompt":"The ","max_tokens":9,"temperature":0,"stream":true}`).Body)
	if done || len(data) != 3 || at(t, data[2], "error", "code") != "engine_crashed" {
		t.Errorf("done %v, events %v", done, data)
	}
}

func TestServe(t *testing.T) {
	e := fake.New(fake.Options{})
	defer e.Close()
	m, err := e.Load(t.Context(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, New(m, Options{})) }()
	response, err := http.Get("http://" + l.Addr().String() + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("shut down with %v", err)
	}
}
