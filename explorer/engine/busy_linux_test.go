package engine

import "testing"

func TestParseProcessors(t *testing.T) {
	u, ok := parseProcessors([]byte("cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 2 3 4\n"))
	if !ok || u.busy != 100+20+30+6+7+8 || u.total != u.busy+450 {
		t.Errorf("%+v, %v", u, ok)
	}
	if u, ok := parseProcessors([]byte("cpu 1 2 3 4\n")); !ok || u.busy != 6 || u.total != 10 { // of old kernels
		t.Errorf("%+v, %v", u, ok)
	}
	for _, text := range []string{"", "cpu", "cpu 1 2 3", "intr 1 2 3 4 5", "cpu 1 x 3 4"} {
		if _, ok := parseProcessors([]byte(text)); ok {
			t.Errorf("%q is read", text)
		}
	}
}
