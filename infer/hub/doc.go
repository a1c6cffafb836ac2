// Package hub brings models of the Hugging Face hub to this machine, into the cache that Hugging Face's own programs share.
//
// [Parse] tells the name of a repository from that of a file, and [Client.Fetch] returns the folder of its newest state with
// the files that make up a model: config.json, the tokenizer and the weights as safetensors, or one GGUF file. Files that
// the cache has are not fetched again; what was interrupted goes on where it ended; everything is held against the hash
// that the hub gives for it before it counts as there.
//
// The addresses and the description of a repository come from github.com/gomlx/go-huggingface, whose HF_ENDPOINT holds here
// too. This package adds HF_HOME and HF_HUB_CACHE (where the cache is), HF_TOKEN (sent to the hub and nowhere else),
// HF_HUB_OFFLINE (what is in the cache must do), progress and resuming.
//
// Errors name the repository and the file. They wrap [ErrNotFound], [ErrDenied], [ErrOffline] or [ErrDamaged], or are those
// of the network or the operating system.
package hub
