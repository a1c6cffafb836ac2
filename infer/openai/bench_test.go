package openai

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// BenchmarkSlowBodies measures the latency of an honest client alone, and beside 64 clients that send a byte a second and one that sends
// bodies of 16 MiB, one after another.
func BenchmarkSlowBodies(b *testing.B) {
	for _, test := range []struct {
		name string
		slow int
		long bool
	}{{"alone", 0, false}, {"64 slow bodies", 64, false}, {"64 slow bodies and 16 MiB", 64, true}} {
		b.Run(test.name, func(b *testing.B) {
			e := fake.New(fake.Options{})
			defer e.Close()
			m, err := e.Load(b.Context(), infer.Defaults("toy.gguf"), nil)
			if err != nil {
				b.Fatal(err)
			}
			l, err := Listen("127.0.0.1:0", "")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			h := New(m, Options{})
			served := make(chan error, 1)
			go func() { served <- Serve(ctx, l, h) }()
			defer func() {
				cancel()
				<-served
			}()
			for range test.slow {
				go trickle(ctx, l.Addr().String())
			}
			for ctx.Err() == nil && h.reading.Load() < int64(test.slow) {
				runtime.Gosched() // until all are under way
			}
			if test.long {
				go flood(ctx, "http://"+l.Addr().String())
			}
			for b.Loop() {
				status, err := chatOnce(ctx, "http://"+l.Addr().String(), strings.NewReader(`{"messages":[{"role":"user","content":"Hello"}],"max_tokens":16}`))
				if err != nil || status != http.StatusOK {
					b.Fatalf("status %d, %v", status, err)
				}
			}
		})
	}
}

// trickle sends bodies at a byte a second until ctx is done.
func trickle(ctx context.Context, address string) {
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	for ctx.Err() == nil {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		end := context.AfterFunc(ctx, func() { _ = c.Close() })
		_, err = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
		for err == nil {
			if _, err = c.Write([]byte{' '}); err == nil {
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
		}
		end()
		_ = c.Close()
	}
}

// flood sends one body of nearly 16 MiB after another until ctx is done.
func flood(ctx context.Context, url string) {
	body := `{"messages":[{"role":"user","content":"` + strings.Repeat("a ", maxBody/2-100) + `"}]}`
	for ctx.Err() == nil {
		_, _ = chatOnce(ctx, url, strings.NewReader(body)) // it is refused
	}
}

func chatOnce(ctx context.Context, url string, body io.Reader) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}
