//go:build !unix

package main

// ignoreSizeSignal does nothing: there is no such signal.
func ignoreSizeSignal() {}
