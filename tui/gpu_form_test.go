package tui

import (
	"testing"

	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
)

// TestGPUForms: layers on the GPU of a benchmark and of a chat are what their forms have, and other words are refused there.
func TestGPUForms(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 120, 40, nil)
	chat := l.m.snap.Chats[0].ID
	for text, want := range map[string]int{"3": 3, "off": 0, "auto": infer.AllLayers} {
		l.press("6", "b")
		l.sees("benchmark")
		l.pick("gpu layers")
		l.press("ctrl+u")
		l.write("some")
		l.press("enter")
		l.sees("must be off, auto or a number of layers")
		l.press("ctrl+u")
		l.write(text)
		n := len(l.m.snap.Benches)
		l.press("enter")
		l.until("the benchmark", func() bool { return len(l.m.snap.Benches) == n+1 })
		if got := l.m.snap.Benches[0].Settings.GPULayers; got != want {
			t.Errorf("%q: a benchmark with %d layers, want %d", text, got, want)
		}

		l.press("4", "t")
		l.sees("temperature")
		l.pick("gpu layers")
		l.press("ctrl+u")
		l.write(text)
		l.press("enter")
		l.until("the chat's layers", func() bool {
			c, ok := l.m.snap.Chat(chat)
			return ok && (c.GPU == text || c.GPU == "" && text == infer.GPUAuto)
		})
	}
}
