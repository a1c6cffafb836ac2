// Package memory reports how much memory is available and how much a process holds. It has figures on Linux, where the kernel
// publishes them, and zeros elsewhere.
package memory
