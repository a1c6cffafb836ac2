// Package gguf reads, cuts and writes model files in the GGUF format, version 3.
//
// [Open] checks the header of a file against named limits and against the size of the file before it allocates memory for it, so that
// a truncated, damaged or foreign file gives an error. A [File] returns metadata ([KV]), hyper-parameters ([File.Config]) and
// tensors, which it reads on demand. [WriteSubnet] writes the units of a model that masks keep, as a smaller file that stock llama.cpp
// loads, [ReadSubnet] reads such a file back, and [Verify] compares it with its source. [Writer] writes any GGUF file.
//
// Matrices are [out, in], row-major, as in the file: a row is contiguous, and blocks of quantised types do not cross rows.
// [Tensor.Dims] is in that order, the reverse of the order in the file's header.
//
// Errors name the file and the field or tensor at fault. They wrap one of the sentinels where callers distinguish them:
// [ErrFormat], [ErrArchitecture], [ErrType], [ErrMissing], [ErrSource] and [ErrSubnet].
//
//	f, err := gguf.Open("model.gguf")
//	if err != nil {
//		return err
//	}
//	defer f.Close()
//	c, err := f.Config()
package gguf
