//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// serveAPI starts `lathe serve-api` until the test ends and returns its address.
func (m *team) serveAPI(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("lathe", append([]string{"serve-api", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Dir, cmd.Env = m.dir, m.env
	stderr, err := cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var log strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&log, lines.Text())
		if found := regexp.MustCompile(`at http://(\S+)/v1`).FindStringSubmatch(lines.Text()); found != nil {
			go io.Copy(io.Discard, stderr) // ends with the server
			return found[1]
		}
	}
	m.t.Fatalf("the server does not listen:\n%s", log.String())
	return ""
}

func (m *team) ask(address, path, body string) (int, string) {
	m.t.Helper()
	response, err := http.Post("http://"+address+path, "application/json", strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestServeAPIModelIDs: the dense model and its subnets have ids of their own, which can be set.
func TestServeAPIModelIDs(t *testing.T) {
	m := newTeam(t)
	if _, stderr, status := m.lathe("cut", m.model, "--ratio", "0.8", "--method", "depth", "--windows", "1", "--seq", "64", "--name", "small"); status != 0 {
		t.Fatal(stderr)
	}
	for want, args := range map[string][]string{
		"tiny llama":    {m.model},
		"tiny llama:s1": {m.model, "--subnet", "small"},
		"org/mine":      {m.model, "--id", "org/mine"},
	} {
		address := m.serveAPI(args...)
		response, err := http.Get("http://" + address + "/v1/models")
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Data []struct {
				ID string `json:"id"`
			} `json:"data"`
		}
		err = json.NewDecoder(response.Body).Decode(&list)
		response.Body.Close()
		if err != nil || len(list.Data) != 1 || list.Data[0].ID != want {
			t.Errorf("%v: %+v, %v; want %s", args, list, err, want)
		}
		if status, text := m.ask(address, "/v1/completions", `{"model":"`+want+`","prompt":"a","max_tokens":1}`); status != 200 {
			t.Errorf("%s: %d %s", want, status, text)
		}
	}
}

// TestServeAPISlowBodies: as many bodies as requests may wait, which do not arrive, keep no place.
func TestServeAPISlowBodies(t *testing.T) {
	m := newTeam(t)
	address := m.serveAPI(m.model)
	for range 64 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	long := `{"messages":[` + strings.Repeat(`{"role":"user","content":""},`, 600_000) + `{"role":"user","content":""}]}`
	if status, text := m.ask(address, "/v1/chat/completions", long[:min(len(long), 17<<20)]); status < 400 || status > 499 {
		t.Errorf("a long request: %d %.200s", status, text)
	}
	if status, text := m.ask(address, "/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi"}],"max_tokens":1}`); status != 200 || strings.Contains(text, "warning") {
		t.Errorf("an honest client: %d %s", status, text)
	}
}

// TestServeAPINotFinite: what a model of NaN is asked for is status 500 with the reason.
func TestServeAPINotFinite(t *testing.T) {
	m := newTeam(t)
	recipe := gguftest.Tiny("llama")
	recipe.Values = func(name string, values []float32) {
		if name == "output_norm.weight" {
			values[3] = float32(math.NaN())
		}
	}
	if err := recipe.Write(m.path("nan.gguf")); err != nil {
		t.Fatal(err)
	}
	address := m.serveAPI(m.path("nan.gguf"))
	for path, bodies := range map[string][]string{
		"/v1/completions":      {`{"prompt":"a"}`, `{"prompt":"a","logprobs":1}`, `{"prompt":"ab","max_tokens":0,"echo":true,"logprobs":1}`, `{"prompt":"a","stream":true}`},
		"/v1/chat/completions": {`{"messages":[{"role":"user","content":"Hi"}],"logprobs":true,"top_logprobs":2}`},
	} {
		for _, body := range bodies {
			if status, text := m.ask(address, path, body); status != 500 || !strings.Contains(text, `is NaN: the model computes NaN or infinite numbers`) {
				t.Errorf("%s: %d %q", body, status, text)
			}
		}
	}
}
