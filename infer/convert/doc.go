// Package convert makes a GGUF file of a model folder as Hugging Face's transformers library writes it: config.json, weights
// in one or more safetensors files, and a tokenizer; and such a folder of a GGUF file.
//
// [Folder] converts, and [Process] does so in another process of the program. Sizes in the folder are held against limits
// and against the files before memory is taken for them, weights are streamed, and the file appears whole or not at all.
// Weights stored as pickles are refused: reading one runs code from it. A vocabulary of byte pairs is read by package
// convert of github.com/ollama/ollama; the pre-tokenizer's name, which llama.cpp must know to split text alike, is told from
// tokenizer.json here, and a tokenizer that has none is refused. OPT's may be vocab.json and merges.txt instead. A vocabulary
// of SentencePiece is read from tokenizer.model.
//
// [WriteFolder] goes the other way for files of Llama's network, also where layers differ, which [Folder] reads back.
//
// Errors name the file and what is wrong in it. They wrap [ErrFormat] where the folder contradicts itself, [ErrUnsupported]
// where it holds a model that cannot be converted, [ErrPickle], and [ErrCrashed] where the other process ended without a
// word, or are those of the operating system.
package convert
