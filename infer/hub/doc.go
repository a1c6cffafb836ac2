// Package hub downloads models from the Hugging Face hub into the cache that Hugging Face's own programs share.
//
// [Parse] parses the name of a repository, and [Client.Fetch] returns the folder of its latest commit with the files that make
// up a model: config.json, the tokenizer and the weights as safetensors, or one GGUF file. Files in the cache are not
// downloaded again, and interrupted downloads resume. A file is in the cache only once its hash is the one that the hub gives,
// and its content and name are on the disk.
//
// [Client.FetchFiles] does the same for chosen files of a repository, such as the questions of a dataset.
//
// URLs and descriptions of repositories come from github.com/gomlx/go-huggingface, which also reads HF_ENDPOINT. This package
// adds HF_HOME and HF_HUB_CACHE (where the cache is), HF_TOKEN and the token that is stored there (sent to the hub and nowhere else), HF_HUB_OFFLINE (only the cache
// is used), progress and resuming.
//
// Errors name the repository and the file. They wrap [ErrNotFound], [ErrDenied], [ErrOffline] or [ErrDamaged], or are those
// of the network or the operating system.
package hub
