package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// llamaServer is a program for scripts: the built-in llama.cpp behind the part of llama-server's protocol that lathe uses.
func llamaServer(args []string) int {
	flags := flag.NewFlagSet("llama-server", flag.ContinueOnError)
	path, host, port, size := flags.String("m", "", ""), flags.String("host", "", ""), flags.String("port", "", ""), flags.Int("c", 0, "")
	for _, name := range []string{"np", "t", "ngl", "b", "ctk", "ctv"} {
		flags.String(name, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	e, err := llamacpp.New(llamacpp.Options{})
	if err != nil {
		return 1
	}
	defer e.Close()
	o := infer.Defaults(*path)
	o.Context, o.Threads = *size, 1
	m, err := e.Load(context.Background(), o, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(*host+":"+*port, protocol{m}))
	return 1
}

type protocol struct{ infer.Model }

func (p protocol) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/health" && r.Header.Get("Authorization") != "Bearer "+os.Getenv("LLAMA_API_KEY") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var body struct {
		Content     string
		Parse       bool `json:"parse_special"`
		Prompt      []int32
		Predict     int `json:"n_predict"`
		Stream      bool
		Temperature float64
		TopK        int     `json:"top_k"`
		TopP        float64 `json:"top_p"`
		MinP        float64 `json:"min_p"`
		Penalty     float64 `json:"repeat_penalty"`
		Seed        uint64
	}
	data, _ := io.ReadAll(r.Body)
	json.Unmarshal(data, &body)
	answer := func(v any) { json.NewEncoder(w).Encode(v) }
	type object = map[string]any
	info := p.Info()
	switch r.URL.Path {
	case "/health":
		answer(object{"status": "ok"})
	case "/props":
		answer(object{"default_generation_settings": object{"n_ctx": info.Context}, "build_info": "b7-test"})
	case "/v1/models":
		answer(object{"data": []object{{"meta": object{"n_vocab": info.Vocab, "n_embd": info.Hidden}}}})
	case "/tokenize":
		ids, err := p.Tokenize(r.Context(), body.Content, body.Parse)
		if err == nil && info.AddBOS && body.Parse && body.Content != "a" {
			ids = ids[1:]
		}
		answer(object{"tokens": append([]int32{}, ids...)})
	case "/completion":
		begin, n := time.Now(), 0
		generated := []int32{}
		var first time.Time
		_, err := p.Generate(r.Context(), body.Prompt, infer.Sampling{MaxTokens: body.Predict, Temperature: body.Temperature, TopK: body.TopK, TopP: body.TopP,
			MinP: body.MinP, RepeatPenalty: body.Penalty, Seed: body.Seed}, func(t infer.Token) error {
			if n++; n == 1 {
				first = time.Now()
			}
			generated = append(generated, t.ID)
			if body.Stream {
				io.WriteString(w, "data: ")
				answer(object{"tokens": []int32{t.ID}, "stop": false, "tokens_predicted": n})
				w.(http.Flusher).Flush()
			}
			return nil
		})
		kind := "limit"
		if n < body.Predict {
			kind = "eos"
		}
		last := object{"tokens": []int32{}, "stop": true, "stop_type": kind, "tokens_predicted": n, "timings": object{
			"prompt_n": len(body.Prompt), "prompt_ms": first.Sub(begin).Seconds() * 1000, "predicted_n": n, "predicted_ms": time.Since(first).Seconds() * 1000}}
		if err != nil {
			last = object{"error": object{"message": err.Error()}}
		}
		if body.Stream {
			io.WriteString(w, "data: ")
		} else {
			last["tokens"] = generated
		}
		answer(last)
	}
}
