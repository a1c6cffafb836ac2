// Package jobs schedules long work on one machine: which job runs, which waits, and which pauses at its gate because another
// needs the cores. A [Meter] computes rates and times left. The package knows nothing of what jobs compute.
package jobs
