package tui

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

func repeat(s string, n int) string { return strings.Repeat(s, max(0, n)) }

func secondsOf(n int64) time.Duration { return time.Duration(n) * time.Second }

func secondsF(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// modelName is what the model is called on the screen: what the person opened, without type and ending. The name inside a
// file is often that of a training run.
func modelName(mi explorer.ModelInfo) string {
	stem := strings.TrimSuffix(filepath.Base(mi.Path), filepath.Ext(mi.Path))
	if mi.Name != "" && strings.HasPrefix(stem, mi.Name) || stem == "" || stem == "." {
		return text.Line(mi.Name)
	}
	if n := len(stem) - len(mi.FileType); n > 1 && mi.FileType != "" && strings.EqualFold(stem[n:], mi.FileType) {
		stem = strings.TrimRight(stem[:n], ".-_")
	}
	return text.Line(stem)
}
