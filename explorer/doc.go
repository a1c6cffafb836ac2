// Package explorer is lathe's domain: one model under exploration, the subnets found or made of it, the measurements
// taken of them, the draft with its edit log, and the jobs that run.
//
// An [Exploration] owns all of it. Viewers (a terminal, an SSH session, the command line) come and go: each reads the
// newest [Snapshot], an immutable value with a revision, as often as it likes, and changes things by handing a [Command]
// to [Exploration.Do]. Nothing in a snapshot is ever written to after it was published, so no viewer needs a lock and a
// slow one delays no other.
//
// What computes is reached through the interfaces of [Backend]: a model is opened, cut, re-fitted, scored, searched,
// exported and run by implementations elsewhere (explorer/engine has the real ones, explorer/explorertest
// deterministic ones). This package knows no user interface and needs no C compiler.
//
// Everything an exploration knows outlives the process: it is kept in a workspace folder, one per model, whose journal is
// on the disk before a command returns (docs/adr/0001-keep-the-workspace-in-plain-files.md).
//
// Files and packages by concern:
//
//   - the draft: draft*.go; changes of masks as pure functions in explorer/draft
//   - library and journal: library.go, subnet.go, record.go, restore.go, recipe.go; the folder on the disk in
//     internal/workspace
//   - jobs: job*.go, search*.go, bench*.go; which of them runs, waits or pauses in internal/jobs
//   - chats: chat*.go; the models that are loaded for them in internal/pool
//   - reports: explorer/report, and how numbers are written in explorer/format
//
// A command of command.go is carried out by its do method, in the files of its concern.
//
// Errors are wrapped with what was attempted; the sentinels in errors.go are for callers that branch. A job that fails
// does not fail the command that started it: its error is in the job's entry of the snapshot and among the messages.
package explorer
