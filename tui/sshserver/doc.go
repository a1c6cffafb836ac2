// Package sshserver shows one exploration to many people over SSH.
//
// A [Server] owns no part of the exploration: sessions come and go, the work goes on. Somebody who opens a terminal gets
// the interactive program of Options.Program, with a size, colours and an environment of their own; `ssh host COMMAND`
// runs Options.Commands with the role of the key. Everything else that the protocol offers is refused.
//
// # Who gets in
//
// Public keys are the only way in, and only keys of the authorized_keys file (keys.go tells its options). The file is read
// at every login, and watched: a key that leaves it, changes its role or expires takes its sessions with it. What a client
// merely offers proves nothing, so a session's rights are looked up anew from the key that signed. Without such a file the
// server listens on loopback only and knows only the key files it was given by name.
//
// # What one client can cost the others
//
// Nothing of a session is written by anybody else's goroutine. The exploration publishes immutable snapshots which sessions
// poll, so a client that stops reading holds up its own session and nothing more, and that ends after Limits.Stall. The
// bounds of what a client may send, keep and start are fields of [Limits] and the constants beside the code that enforces
// them (gate.go connections, channel.go requests, input.go keys, exploration.go commands). docs/bounds.md has all of them in a table with
// the test that shows each.
//
// # Errors
//
// New and Serve return errors a person can act on. What happens to one connection is written to Options.Log and the audit
// log, and ends that connection only. Sessions that the server ends are told why.
package sshserver
