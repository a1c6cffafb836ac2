//go:build unix

package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// conversation runs `lathe chat --json` on a pseudo terminal, and types each text once it is asked for a prompt. It returns the
// results, all that was sent to the terminal and the exit status.
func conversation(t *testing.T, context int, typed ...string) (results []chatResult, sent string, status int) {
	t.Helper()
	model := filepath.Join(t.TempDir(), "tiny.gguf")
	tiny := gguftest.Tiny("llama")
	tiny.Context = context
	if err := tiny.Write(model); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "lathe", "chat", model, "--json", "--max-tokens", "4")
	cmd.Env = append(os.Environ(), "TERM=xterm")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tty.Close() }()
	out := make(chan string)
	go func() {
		defer close(out)
		for b := make([]byte, 1<<14); ; {
			n, err := tty.Read(b)
			if n > 0 {
				out <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	prompt := regexp.MustCompile(`(^|\n)(\x1b\[\?2004h)?> `)
	typed = append(typed, "\x04")
	late := time.After(patience)
	for asked := 0; ; {
		select {
		case text, ok := <-out:
			if !ok {
				_ = cmd.Wait()
				for _, line := range strings.Split(sent, "\n") {
					var r chatResult
					if at := strings.Index(line, `{"model"`); at >= 0 && json.Unmarshal([]byte(line[at:]), &r) == nil {
						results = append(results, r)
					}
				}
				return results, sent, cmd.ProcessState.ExitCode()
			}
			sent += text
			for n := len(prompt.FindAllString(sent, -1)); asked < n && asked < len(typed); asked++ {
				go func(text string) { _, _ = io.WriteString(tty, text) }(typed[asked])
			}
		case <-late:
			t.Fatalf("the conversation does not end: %.3000q", sent)
		}
	}
}

func TestTypedPrompts(t *testing.T) {
	long := strings.Repeat(" the", 1500)
	family := "\U0001F468\u200d\U0001F469\u200d\U0001F467 \u2764\ufe0f \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 a\u2028b\u200bc"
	results, sent, status := conversation(t, 16384,
		"\x1b[200~one\rtwo\r\nthree\x1b[201~\r",
		"\x1b[200~if x:\r\treturn 1\x1b[201~\n",
		long+"\r",
		"a\tb"+family+"\r",
		"\r", // no prompt
		"helo\x7flo\x15\x15hello wrld\x17world\x1b[D\r",
	)
	want := []string{"one\ntwo\nthree", "if x:\n\treturn 1", long, "a\tb" + family, "hello world"}
	if status != exitOK || len(results) != len(want) {
		t.Fatalf("status %d, %d results: %.3000q", status, len(results), sent)
	}
	for i, r := range results {
		if r.Prompt != want[i] {
			t.Errorf("prompt %d is %.200q (%d bytes), want %.200q (%d)", i, r.Prompt, len(r.Prompt), want[i], len(want[i]))
		}
	}
	if !strings.HasSuffix(strings.TrimSpace(sent), pasteOff) {
		t.Errorf("the terminal is not given back: %q", sent[max(0, len(sent)-100):])
	}
}

// TestLongConversation sends prompts beyond what the context and a prompt hold: each is an error of that prompt alone, and the
// oldest turns are left out where there is no room for them.
func TestLongConversation(t *testing.T) {
	middle := strings.Repeat("word ", 25)
	results, sent, status := conversation(t, 512,
		middle+"\r", strings.Repeat("long ", 200)+"\r", strings.Repeat("x", maxPiped+1)+"\r",
		middle+"\r", middle+"\r", middle+"\r", middle+"\r", middle+"\r", middle+"\r")
	if status != exitOK || len(results) != 7 {
		t.Fatalf("status %d, %d results: %.3000q", status, len(results), sent)
	}
	if !strings.Contains(sent, "longer than the context") || !strings.Contains(sent, "the prompt is longer than") {
		t.Errorf("no word of what was too long: %.3000q", sent)
	}
	if results[0].LeftOut != 0 || results[6].LeftOut == 0 || !strings.Contains(sent, "without the conversation's first") {
		t.Errorf("turns left out: %d of the first, %d of the last prompt", results[0].LeftOut, results[6].LeftOut)
	}
}

// TestPipedPrompt checks that the newline which ends a text in a pipe is no part of the prompt.
func TestPipedPrompt(t *testing.T) {
	for piped, want := range map[string]string{"Hi": "Hi", "Hi\n": "Hi", "Hi\r\n": "Hi", "a\n\nb\n": "a\n\nb", "\ta\n\n": "\ta\n"} {
		var out, words strings.Builder
		model := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(model, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		status := run(t.Context(), fakeApp(strings.NewReader(piped), &out, &words), []string{"chat", model, "--json"})
		var r chatResult
		if err := json.Unmarshal([]byte(out.String()), &r); status != exitOK || err != nil || r.Prompt != want {
			t.Errorf("%q: status %d, prompt %q, want %q: %v %s", piped, status, r.Prompt, want, err, words.String())
		}
	}
}
