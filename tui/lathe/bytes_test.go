package main

import "testing"

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"512MB": 512e6, "1.5 GiB": 3 << 29, "100000000": 1e8, "2tb": 2e12, "1TiB": 1 << 40, " 80 kB ": 80e3, "7B": 7,
		"": 0, "MB": 0, "0MB": 0, "-1GB": 0, "nanMB": 0, "1e30GB": 0, "3 cats": 0,
	} {
		if got, err := parseBytes(text); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}
