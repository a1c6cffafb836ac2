// Package convert makes a GGUF file of a model folder as Hugging Face's transformers library writes it: config.json, weights in one or more
// safetensors files, and a tokenizer.
//
// [Folder] is the whole of it, and [Process] does it in another process. Sizes in the folder are held against limits and against the files before memory is taken for them, weights are
// streamed, and the file appears whole or not at all. Weights stored as pickles are refused: reading one runs code from it. A vocabulary of
// byte pairs is read by package convert of github.com/ollama/ollama; the pre-tokenizer's name, which llama.cpp must know to split text alike, is
// told from tokenizer.json here, and a tokenizer that has none is refused. One of SentencePiece is read from tokenizer.model.
//
// Errors name the file and what is wrong in it. They wrap [ErrFormat] where the folder contradicts itself, [ErrUnsupported] where it holds a model
// that cannot be converted, and [ErrPickle], or are those of the operating system.
package convert
