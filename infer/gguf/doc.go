// Package gguf reads, cuts and writes model files in the GGUF format, version 3.
//
// [Open] checks a file's header against named limits and against the file's size before anything is allocated for it, so a
// truncated, lying or foreign file gives an error and not a crash. A [File] then hands out metadata ([KV]), hyper-parameters
// ([File.Config]) and tensors, which stay on disk until [File.Float32] or [File.Read] asks for one. [WriteSubnet] writes the
// part of a model that a set of masks keeps, as a file that stock llama.cpp loads and that is smaller by what was cut.
// [Writer] writes any GGUF file.
//
// Matrices are [out, in], row-major, as the file holds them: a row is contiguous and is what a block of a quantised type lies in.
// [Tensor.Dims] is in that order, the reverse of the order in the file's header.
//
// Errors name the file and the field or tensor that is wrong. Those that callers branch on wrap one of the sentinels:
// [ErrFormat], [ErrArchitecture], [ErrType], [ErrMissing], [ErrSource] and [ErrSubnet].
//
//	f, err := gguf.Open("model.gguf")
//	if err != nil {
//		return err
//	}
//	defer f.Close()
//	c, err := f.Config()
package gguf
