//go:build !linux

package llamacpp

import "os"

func claimOutput() (*os.File, error) {
	out := os.Stdout
	os.Stdout = os.Stderr
	return out, nil
}

func dieFirst() {}
