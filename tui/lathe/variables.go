package main

// variables documents the environment variables of the program, for the page of commands and the manual page.
var variables = []struct{ names, meaning string }{
	{"LATHE_CACHE", "folder for data that can be downloaded or made again: default model, texts, plug-ins, converted models, conversations (default: `lathe` in the user's cache folder)"},
	{"LATHE_WORKSPACES", "folder of the workspaces of all models (default: `lathe/workspaces` in the user's data folder)"},
	{"LATHE_SCRATCH", "folder for temporary files, as large as a model (default: the system's)"},
	{"HF_HOME, HF_HUB_CACHE", "cache of the Hugging Face hub, shared with its own programs"},
	{"HF_TOKEN, HF_TOKEN_PATH", "token for the hub, or its file (default: `token` in `HF_HOME`, where `hf auth login` stores it)"},
	{"HF_HUB_OFFLINE", "`1` uses the cache only"},
	{"HF_ENDPOINT", "URL of the hub"},
	{"LATHE_COLOR", "colours of the explorer if `--color` is not given: `auto`, `none`, `16`, `256` or `true`; over SSH each session's own"},
	{"LATHE_THEME", "theme of the explorer, its background, or both, if `--theme` is not given: a name that `lathe themes` lists, `auto` (as the terminal reports), `dark` or `light`, as in `ocean,light`; over SSH each session's own"},
	{"LATHE_ASCII", "`1`: the explorer draws with ASCII characters only, if `--ascii` is not given; over SSH each session's own"},
	{"LATHE_KEYS", "content of a key map in TOML, which overrides the file of `--keys`; over SSH each session's own"},
	{"NO_COLOR", "`1`: the explorer draws without colours, unless `LATHE_COLOR` or `--color` is given"},
	{"LATHE_API_KEY", "key that clients of `serve-api` must send"},
	{"LATHE_BACKEND", "device that search and re-fit compute on, if `--compute` is not given"},
	{"LATHE_GPU_LIBRARIES", "folder of the engine's GPU libraries instead of the one that `make gpu` built; `none` for none"},
	{"PJRT_PLUGIN_LIBRARY_PATH", "folders in which XLA's plug-ins are looked for first"},
	{"LATHE_NATS_USER, LATHE_NATS_PASSWORD", "user and password for the NATS server of `--nats`"},
	{"LATHE_ENGINE", "what runs models if `--engine` is not given"},
	{"LLAMA_API_KEY", "key of a llama-server that `--engine` names by URL"},
}
