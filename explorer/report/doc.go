// Package report writes what people take away from an exploration: benchmarks as text, CSV, JSON and lines for benchstat,
// chats as Markdown, and the subnet that fits into the memory of a machine.
package report
