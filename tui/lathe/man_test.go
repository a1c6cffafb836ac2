package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestManPages checks that each page has every flag of its command, and that groff formats it without a warning.
func TestManPages(t *testing.T) {
	groff, _ := exec.LookPath("groff")
	var all []byte
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		page := manPage(c)
		all = append(all, page...)
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !bytes.Contains(page, []byte(roff("--"+f.Name))) {
				t.Errorf("%s lacks --%s", manName(c), f.Name)
			}
		})
		for _, sub := range documented(c) {
			if !bytes.Contains(page, []byte(roff(manName(sub)))) {
				t.Errorf("%s lacks %s", manName(c), manName(sub))
			}
			visit(sub)
		}
	}
	visit(newRoot(&app{}))
	if groff == "" {
		t.Skip("groff is not installed: the format of the pages is not checked")
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-Tutf8", "-k", "-z")
	cmd.Stdin = bytes.NewReader(all)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		".begins": `\&.begins`, "'quoted": `\&'quoted`, `a\b --flag`: `a\eb \-\-flag`, "one\n.two": "one\n\\&.two", "e.g. this": "e.g. this",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if page := string(manPage(newRoot(&app{}))); !strings.HasPrefix(page, ".TH LATHE 1 ") || !strings.Contains(page, "LATHE_CACHE") {
		t.Errorf("%.200s", page)
	}
}
