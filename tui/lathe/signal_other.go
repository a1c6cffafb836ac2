//go:build !unix

package main

// ignoreSizeSignal does nothing: SIGXFSZ exists on Unix only.
func ignoreSizeSignal() {}
