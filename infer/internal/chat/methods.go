package chat

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// stringMethods returns Python's, as far as templates use them. The library's own fail on their default arguments.
func stringMethods() *exec.MethodSet[string] {
	return exec.NewMethodSet(map[string]exec.Method[string]{
		"strip":  trimmer(strings.TrimFunc),
		"lstrip": trimmer(strings.TrimLeftFunc),
		"rstrip": trimmer(strings.TrimRightFunc),
		"upper":  converter(strings.ToUpper),
		"lower":  converter(strings.ToLower),
		"title":  converter(title),
		"capitalize": converter(func(s string) string {
			first, n := utf8.DecodeRuneInString(s)
			if n == 0 {
				return s
			}
			return string(unicode.ToUpper(first)) + strings.ToLower(s[n:])
		}),
		"startswith":   tester(strings.HasPrefix),
		"endswith":     tester(strings.HasSuffix),
		"removeprefix": texts(1, 1, func(s string, a []string) any { return strings.TrimPrefix(s, a[0]) }),
		"removesuffix": texts(1, 1, func(s string, a []string) any { return strings.TrimSuffix(s, a[0]) }),
		"find": texts(1, 1, func(s string, a []string) any {
			at := strings.Index(s, a[0])
			if at < 0 {
				return at
			}
			return utf8.RuneCountInString(s[:at])
		}),
		"count": texts(1, 1, func(s string, a []string) any {
			if a[0] == "" {
				return utf8.RuneCountInString(s) + 1
			}
			return strings.Count(s, a[0])
		}),
		"isdigit": texts(0, 0, func(s string, _ []string) any {
			return s != "" && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsDigit(r) }) < 0
		}),
		"splitlines": texts(0, 0, func(s string, _ []string) any {
			s = strings.ReplaceAll(s, "\r\n", "\n")
			if s = strings.TrimSuffix(s, "\n"); s == "" {
				return []any{}
			}
			return anys(strings.Split(s, "\n"))
		}),
		"replace": replaceMethod,
		"split":   splitMethod,
		"join":    joinMethod,
	})
}

// texts returns a method that takes from least to most strings.
func texts(least, most int, do func(self string, args []string) any) exec.Method[string] {
	return func(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
		if len(args.KwArgs) > 0 || len(args.Args) < least || len(args.Args) > most {
			return nil, exec.ErrInvalidCall(fmt.Errorf("%d arguments, not %d to %d", len(args.Args)+len(args.KwArgs), least, most))
		}
		var given []string
		for _, a := range args.Args {
			if !a.IsString() {
				return nil, exec.ErrInvalidCall(errors.New("an argument is not a string"))
			}
			given = append(given, a.String())
		}
		return do(self, given), nil
	}
}

func converter(f func(string) string) exec.Method[string] {
	return texts(0, 0, func(s string, _ []string) any { return f(s) })
}

func trimmer(trim func(string, func(rune) bool) string) exec.Method[string] {
	return texts(0, 1, func(s string, a []string) any {
		if len(a) == 0 {
			return trim(s, unicode.IsSpace)
		}
		return trim(s, func(r rune) bool { return strings.ContainsRune(a[0], r) })
	})
}

// tester returns a method that takes one string or a list of them, any of which may match.
func tester(test func(s, part string) bool) exec.Method[string] {
	return func(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
		if len(args.Args) != 1 {
			return nil, exec.ErrInvalidCall(fmt.Errorf("%d arguments, not 1", len(args.Args)))
		}
		arg := args.First()
		if arg.IsString() {
			return test(self, arg.String()), nil
		}
		found := false
		arg.Iterate(func(_, _ int, part, _ *exec.Value) bool {
			found = found || test(self, part.String())
			return !found
		}, func() {})
		return found, nil
	}
}

func replaceMethod(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	n := len(args.Args)
	if n < 2 || n > 3 || !args.Args[0].IsString() || !args.Args[1].IsString() || (n == 3 && !args.Args[2].IsInteger()) {
		return nil, exec.ErrInvalidCall(errors.New("replace takes two strings and perhaps a number"))
	}
	times := -1
	if n == 3 {
		times = args.Args[2].Integer()
	}
	return strings.Replace(self, args.Args[0].String(), args.Args[1].String(), times), nil
}

func splitMethod(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	n := len(args.Args)
	switch {
	case n == 0:
		return anys(strings.Fields(self)), nil
	case n > 2 || !args.Args[0].IsString() || args.Args[0].String() == "" || (n == 2 && !args.Args[1].IsInteger()):
		return nil, exec.ErrInvalidCall(errors.New("split takes a string and perhaps a number"))
	}
	parts := -1
	if n == 2 && args.Args[1].Integer() >= 0 {
		parts = args.Args[1].Integer() + 1
	}
	return anys(strings.SplitN(self, args.Args[0].String(), parts)), nil
}

func joinMethod(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	if len(args.Args) != 1 {
		return nil, exec.ErrInvalidCall(errors.New("join takes a list"))
	}
	var parts []string
	args.First().Iterate(func(_, _ int, part, _ *exec.Value) bool {
		parts = append(parts, part.String())
		return true
	}, func() {})
	return strings.Join(parts, self), nil
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// title returns s with the first letter of every word in upper case and the others in lower case.
func title(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		first := !inWord
		inWord = unicode.IsLetter(r)
		if first {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, s)
}

// dictMethods returns Python's for reading. Keys are in alphabetical order.
func dictMethods() *exec.MethodSet[map[string]any] {
	type dict = map[string]any
	list := func(pick func(key string, value any) any) exec.Method[dict] {
		return func(self dict, _ *exec.Value, _ *exec.VarArgs) (any, error) {
			out := []any{}
			for _, key := range slices.Sorted(maps.Keys(self)) {
				out = append(out, pick(key, self[key]))
			}
			return out, nil
		}
	}
	return exec.NewMethodSet(map[string]exec.Method[dict]{
		"keys":   list(func(key string, _ any) any { return key }),
		"values": list(func(_ string, value any) any { return value }),
		"items":  list(func(key string, value any) any { return []any{key, value} }),
		"get": func(self dict, _ *exec.Value, args *exec.VarArgs) (any, error) {
			if n := len(args.Args); n < 1 || n > 2 {
				return nil, exec.ErrInvalidCall(fmt.Errorf("%d arguments, not 1 or 2", n))
			}
			if value, ok := self[args.Args[0].String()]; ok {
				return value, nil
			}
			if len(args.Args) == 2 {
				return args.Args[1].Interface(), nil
			}
			return nil, nil
		},
	})
}
