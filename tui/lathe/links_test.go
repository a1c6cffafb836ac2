package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinks checks that every link of every page leads to a file, and to a heading where it names one, and that every page can be
// reached from the README.
func TestLinks(t *testing.T) {
	const root = "../.."
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	heading := regexp.MustCompile(`(?m)^#+ +(.+)$`)
	anchors := func(text string) map[string]bool {
		found := map[string]bool{}
		for _, m := range heading.FindAllStringSubmatch(text, -1) {
			words := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			found[strings.ReplaceAll(words, " ", "-")] = true
		}
		return found
	}
	pages := pages(t)
	leads := map[string][]string{}
	for path, text := range pages {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			full := path
			if target != "" {
				full = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(filepath.Join(root, full)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", path, m[1])
				continue
			}
			leads[path] = append(leads[path], full)
			if other, ok := pages[full]; ok && anchor != "" && !anchors(other)[anchor] {
				t.Errorf("%s: %s has no heading #%s", path, full, anchor)
			}
		}
	}
	reached := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		if reached[path] {
			return
		}
		reached[path] = true
		for _, next := range leads[path] {
			visit(next)
		}
	}
	visit("README.md")
	for path := range pages {
		if !reached[path] && !strings.Contains(path, "/adr/") && !strings.HasPrefix(path, ".") && !strings.Contains(path, "testdata/") {
			t.Errorf("%s cannot be reached from the README", path)
		}
	}
}
