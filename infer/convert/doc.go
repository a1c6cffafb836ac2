// Package convert converts model folders of Hugging Face's transformers library (config.json, weights in one or more
// safetensors files, and a tokenizer) to GGUF files, and GGUF files to such folders.
//
// [Folder] converts a folder, and [Process] does so in another process of the program. Sizes in the folder are checked
// against limits and against the files before memory is allocated, weights are streamed, and either the whole file appears
// or none. Weights stored as pickles are rejected, because reading them runs code. Package convert of
// github.com/ollama/ollama reads byte-pair vocabularies; this package derives llama.cpp's name of the pre-tokenizer from
// tokenizer.json and rejects a tokenizer that llama.cpp has no name for. OPT may have vocab.json and merges.txt instead.
// SentencePiece vocabularies are read from tokenizer.model.
//
// [WriteFolder] is the inverse for files of Llama's network, with equal or different layers; [Folder] reads its folders.
//
// Errors name the file and the fault. They wrap [ErrFormat] where the folder contradicts itself, [ErrUnsupported] where the
// model cannot be converted, [ErrPickle], and [ErrCrashed] where the other process ended without a result, or are those of
// the operating system.
package convert
