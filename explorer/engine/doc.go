// Package engine computes for the explorer: it implements [explorer.Backend] over model files (infer/gguf), the
// transformer's graphs (infer/decoder), re-fitting and search (reform, search), and llama.cpp in a child process
// (infer/llamacpp).
//
// An [Engine] opens models. Opening reads a header only; weights are loaded by the first piece of work that computes with
// them, and stay loaded. [Engine.Diagnose] reports which of these work on a machine, and how to get the rest.
//
// Errors name the file or the text they are about. Texts that cannot be used wrap [explorer.ErrText].
package engine
