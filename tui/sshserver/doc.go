// Package sshserver serves one exploration to many people over SSH.
//
// A [Server] does not own the exploration: sessions open and close while jobs continue. A client that opens a terminal gets
// the interactive program of Options.Program, with the size, colours and environment of its own terminal; `ssh host COMMAND`
// calls Options.Commands with the role of the key. Everything else that the protocol offers is refused.
//
// # Access
//
// Public keys are the only way to log in, and only the keys of the authorized_keys file are allowed (allowlist.go documents
// its options). The file is read at every login, and watched: sessions end when their key is removed, changes its role or
// expires. A key that a client merely offers proves nothing, so the rights of a session are looked up by the key that signed.
// Without such a file the server listens on loopback only and allows only the key files that it was given.
//
// # Isolation of clients
//
// Only a session's own goroutines write to its client. The exploration publishes immutable snapshots, which sessions poll, so
// a client that stops reading blocks its own session only, and that session ends after Limits.Stall. The bounds of what a
// client may send, store and start are the fields of [Limits] and the constants beside the code that enforces them: gate.go
// for connections, channel.go for requests, input.go for keys, view.go for commands. docs/bounds.md lists all of them with the
// test of each; record 24 in explorer/docs/adr has the reasons.
//
// # Errors
//
// New and Serve return errors that the operator can act on. Events of one connection go to Options.Log and the audit log and
// end that connection only. A session that the server ends is told the reason.
package sshserver
