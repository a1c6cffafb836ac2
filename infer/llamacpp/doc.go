// Package llamacpp implements [infer.Engine] with llama.cpp.
//
// llama.cpp runs in a child process, one for each loaded model: the same executable, started with a hidden first argument.
// Native code that aborts on a bad file, runs out of memory or must be stopped ends only the child. The running call gets
// [infer.ErrEngineCrashed] with the last lines of the child's log, and the next call starts a new child. Native code prints
// nothing to the terminal: the child's standard output and standard error are its log file, apart from the protocol.
//
// A program that uses the package calls [RunIfChild] before anything else, and so does TestMain in its tests:
//
//	func main() {
//		llamacpp.RunIfChild()
//		…
//	}
//
// # Protocol
//
// Parent and child exchange frames over the child's standard input and output: a length of four bytes, little endian, and
// that many bytes of JSON, at most [maxFrame]. Each frame is self-contained, so a damaged one is an error and does not
// corrupt those after it, and memory is allocated only for bytes that have arrived. Arrays of numbers are base64 of their
// bits, which keeps NaN. The parent sends one request at a time, and may send abort and threads during it; the child
// answers with events and then one result or failure.
//
// The child exits at the end of its standard input, so it does not outlive its parent; on Linux the kernel kills it too.
//
// # GPUs
//
// A child loads the GPU libraries in the folder of [Options].Libraries by their paths, and no others, before it lists devices. One
// that does not load is reported with what the system's loader reports. A model without layers on a GPU runs in a child without
// libraries, since ggml computes large products on any GPU that it has. A GPU that fails is an error with the line of the child's log
// that reports it; with [infer.AllLayers] the model continues on the processor, and [infer.Info].Fallback is the reason.
//
// # Without cgo
//
// The package builds without cgo. Loading then fails with [infer.ErrUnavailable].
package llamacpp
