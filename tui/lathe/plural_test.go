package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCountsAgreeWithNouns looks at all texts that people read for a count with a noun that is always in the plural, "%d steps", which
// writes 1 steps. Errors are left out, whose counts are those that somebody asked for, and nouns of which there are always many.
func TestCountsAgreeWithNouns(t *testing.T) {
	many := regexp.MustCompile(`^(tokens|bytes|ms|characters|entries|others|to|is|has|questions|of|lines)$`)
	plural := regexp.MustCompile(`%d ([a-z]+s)\b`)
	files := 0
	for _, root := range []string{"..", "../../explorer"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "explorertest") {
				return err
			}
			files++
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if fun, ok := call.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "Errorf" {
						return false
					}
				}
				text, ok := n.(*ast.BasicLit)
				if !ok || text.Kind != token.STRING {
					return true
				}
				for _, found := range plural.FindAllStringSubmatch(text.Value, -1) {
					if !many.MatchString(found[1]) && !strings.Contains(text.Value, `\n%d cores\n`) { // what is hashed
						t.Errorf("%s: %s: use format.Counted", set.Position(text.Pos()), text.Value)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("only %d files were found", files)
	}
}
