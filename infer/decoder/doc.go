// Package decoder computes the decoder-only transformer of a GGUF file with GoMLX: what calibration, search and
// reformation need of a model, which is far less than a runtime for generating text.
//
// The main types are
//
//   - [Device], which runs the graphs: the XLA CPU plugin, XLA on a CUDA GPU, or GoMLX's own Go backend;
//   - [Model], the dense weights of one file on a device;
//   - [Subnet], masks and refits of a model, its weights gathered to the cut shapes; layers that are equal are shared
//     between subnets;
//   - [States], [Inputs] and [Moments], the hidden states of calibration windows as they move through the layers and
//     the statistics of what enters a matrix;
//   - [Score] and [Scorer], the likelihood of text under a subnet, the latter with everything a search repeats kept.
//
// Matrices are [out, in] in row-major order, as in the file. Activations are [tokens, channels]. All arithmetic on
// the device is 32-bit floating point; sums over windows are 64-bit on the host.
//
// Dropping a unit means what zeroing its weights in the full-size model would compute: query and key channels
// dropped from a head take no part in the dot product, whose scale stays that of the full head.
//
// Functions that compute return the error of the device wrapped with what was being computed; a panic inside GoMLX
// is turned into an error in one place ([Device] runs every graph). [ErrClosed] tells a use after Close. Every
// function that computes observes its context between graphs, not within one.
//
// One Model serves many goroutines, but its graphs run one at a time.
package decoder
