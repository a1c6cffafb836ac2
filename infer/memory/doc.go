// Package memory says how much memory there is and how much a process holds. It knows where the kernel tells, which is on
// Linux.
package memory
