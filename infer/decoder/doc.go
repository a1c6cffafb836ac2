// Package decoder computes the decoder-only transformer of a GGUF file with GoMLX. It has what calibration, search and
// reformation need of a model, which is far less than a runtime that generates text.
//
// The main types are
//
//   - [Device], which runs the graphs: the XLA CPU plugin, XLA on a CUDA GPU, or GoMLX's own Go backend;
//   - [Model], the dense weights of one file on a device;
//   - [Subnet], masks and re-fits of a model, with its weights gathered to the cut shapes; subnets share equal blocks;
//   - [States], [Inputs] and [Moments], the residual stream of calibration windows on its way through the layers, the
//     activations that enter a matrix, and their statistics;
//   - [Score] and [Scorer], the likelihood of text under a subnet; a Scorer caches what a search would compute again.
//
// Matrices are [out, in] in row-major order, as in the file. Activations are [tokens, channels]. All arithmetic of
// graphs is 32-bit floating point, also where matrices are stored as bfloat16; sums over batches of windows are 64-bit on the host. With XLA
// a device also runs programs in StableHLO text on arrays of 64-bit floats ([Device.Program]), for what graphs cannot express.
//
// A dropped unit has the effect of zeroing its weights in the full-size model: query and key channels dropped from a head
// are not in the dot product, whose scale stays that of the full head.
//
// Functions that compute return the error of the device wrapped with what was being computed; a panic inside GoMLX
// is turned into an error in one place ([Device] runs every graph). [ErrClosed] reports a use after Close. Every
// function that computes observes its context between graphs, not within one.
//
// # Who owns what
//
// Package weights decides which weights are on the device, and its comment draws that in detail. Memory on the device
// is freed by hand; an arrow points from an owner to what it frees:
//
//	Device ──► compiled graphs                       freed by Device.Close
//	Model  ──► weights.Residence: tensors of weights evicted past the limit of WithWeights; freed by Model.Close
//	  │        and a spill file
//	  ├──────► weights.Registry: a reference to each old blocks that nothing else holds are released past 256 MiB;
//	  │        block                                 all by Model.Close
//	  └──────► position tables, causal masks         freed by Model.Close
//	Subnet ──► a reference to each of its blocks     released by Subnet.Close
//	block  ──► its gathered weights, position tables freed with the last reference
//	Array ───► its buffer of a program               freed by Array.Close
//	States ──► weights.Store: [tokens, hidden] each, replaced as the states advance; freed by States.Close
//	           past WithMemory in a spill file
//	Inputs ──► [tokens, n] each up to WithMemory     freed by Inputs.Close; stale once its States advance
//	Scorer ──► targets of each text, states after    the least recently used states are dropped past
//	           first layers                          ScorerOptions.Memory; all freed by Scorer.Close
//
// Close in the reverse of the order of opening: Inputs, States, Scorer and Subnet before their Model, the Model before its
// Device.
//
// One Model serves many goroutines, but its graphs run one at a time.
package decoder
