// Package llamacpp runs models with llama.cpp. It is an [infer.Engine].
//
// llama.cpp runs in a child process, one for each loaded model: the same executable, started again with a hidden first
// argument. Native code that aborts on a bad file, runs out of memory or must be stopped half way takes only the child
// with it; the call under way gets [infer.ErrEngineCrashed] with the last lines of the child's log, and the next call
// starts a new one. Nothing the native code prints reaches the terminal: the child's standard output and error go to its
// log file.
//
// A program that uses the package calls [RunIfChild] before anything else:
//
//	func main() {
//		llamacpp.RunIfChild()
//		…
//	}
//
// so does TestMain in the tests of such a program.
//
// # Protocol
//
// Parent and child speak over the child's standard input and output in frames: a length of four bytes, little endian, and
// that many bytes of JSON, at most [maxFrame]. Each frame stands for itself, so a damaged one is one error and not a
// stream out of step, and nothing is allocated before it has arrived; gob would save bytes and send its type
// descriptions, and bind both ends to the state of one decoder. Numbers in bulk travel as base64 of their bits, which
// keeps NaN. The parent sends one request at a time and may send abort and threads beside it; the child answers with
// events and then one result or failure.
//
// The child ends when its standard input does, so it never outlives its parent; on Linux the kernel kills it besides.
//
// # Without cgo
//
// The package builds without cgo. Then loading fails with [infer.ErrUnavailable].
package llamacpp
