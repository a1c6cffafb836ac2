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
// Errors are wrapped with what was attempted; the sentinels in errors.go are for callers that branch. A job that fails
// does not fail the command that started it: its error is in the job's entry of the snapshot and among the messages.
package explorer
