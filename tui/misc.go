package tui

import (
	"strings"
	"time"
)

func repeat(s string, n int) string { return strings.Repeat(s, max(0, n)) }

func secondsOf(n int64) time.Duration { return time.Duration(n) * time.Second }

func secondsF(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
