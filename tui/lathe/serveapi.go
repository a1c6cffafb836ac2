package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/openai"
)

// keyVariable is the environment variable of the key that clients of `serve-api` must send.
const keyVariable = "LATHE_API_KEY"

func (a *app) serveAPICommand() *cobra.Command {
	o := infer.Defaults("")
	var listen, keyFile, subnet, id string
	cmd := &cobra.Command{
		Use:   "serve-api [MODEL]",
		Short: "Serve a model or a subnet over an OpenAI-compatible API",
		Long: "Chat and text completions with streaming and log-probabilities, and the list of models, for any client including\n" +
			"lm-evaluation-harness. Beyond loopback a key is required: in $" + keyVariable + " or in a file.\n\n" +
			"Chats can have tools where the model's chat template renders them and shows how the model calls them: <tool_call> (Qwen, Hermes),\n" +
			"[TOOL_CALLS] (Mistral) or an object with parameters (Llama 3). A stream with tools is sent in one piece. tool_choice is auto or none.\n\n" +
			"Fields beyond OpenAI's: top_k, min_p, repeat_penalty; documents, for templates that render them; and for text completions parse_special,\n" +
			"with which control tokens that are spelled out in the prompt become tokens. Without it they are text, as always in messages.",
		Example: "  lathe serve-api small.gguf\n  LATHE_API_KEY=… lathe serve-api --subnet s3 --listen :8080",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if err := checkAddress(listen); err != nil {
				return err
			}
			key := a.getenv(keyVariable)
			if keyFile != "" {
				data, err := os.ReadFile(keyFile)
				if err != nil {
					return input(err)
				}
				if key = strings.TrimSpace(string(data)); key == "" {
					return input(fmt.Errorf("%s: the key is empty", keyFile))
				}
			}
			if model, err = a.local(cmd.Context(), model); err != nil {
				return err
			}
			if subnet == string(explorer.DenseID) {
				o.Path = model
				return a.serveFile(cmd.Context(), model, o, listen, openai.Options{Key: key, Name: id}, "")
			}
			return a.serveSubnet(cmd.Context(), model, subnet, o, listen, openai.Options{Key: key, Name: id})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on")
	flags.StringVar(&keyFile, "key-file", "", "file with the key that clients must send")
	flags.StringVar(&subnet, "subnet", string(explorer.DenseID), "subnet of the workspace to serve: an id, a name, or draft")
	flags.StringVar(&id, "id", "", "id of the model for clients (default: the model's name; that of a subnet has the subnet's id after a colon)")
	flags.IntVar(&o.Context, "context", o.Context, "tokens of context; 0 for 4096, or the model's limit if that is smaller")
	flags.IntVar(&o.Threads, "threads", o.Threads, "processor threads; 0 for one per core")
	flags.StringVar(&o.KVType, "kv-type", infer.KVF16, "type of the KV cache: "+strings.Join([]string{infer.KVF16, infer.KVQ80, infer.KVQ40}, ", "))
	choices(flags, "kv-type", infer.KVF16, infer.KVQ80, infer.KVQ40)
	return cmd
}

// serveSubnet serves a subnet from a temporary file.
func (a *app) serveSubnet(ctx context.Context, model, subnet string, o infer.LoadOptions, listen string, served openai.Options) (err error) {
	dir, err := a.scratch("serve")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	o.Path = dir.Join("subnet.gguf")
	written, err := a.writeSubnet(ctx, model, subnet, o.Path)
	if err != nil {
		return err
	}
	return a.serveFile(ctx, model, o, listen, served, ":"+written)
}

// serveFile loads a model file and serves it until ctx ends. Its default id is its name, followed by suffix.
func (a *app) serveFile(ctx context.Context, model string, o infer.LoadOptions, listen string, served openai.Options, suffix string) (err error) {
	backend, err := a.backend(a.compute)
	if err != nil {
		return err
	}
	opened, err := backend.Open(ctx, model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	l, err := openai.Listen(listen, served.Key)
	if errors.Is(err, openai.ErrNoKey) {
		return usage(fmt.Errorf("--listen %s: set $%s or --key-file: %w", listen, keyVariable, err))
	}
	if err != nil {
		return err
	}
	loaded, err := opened.Load(ctx, o, nil)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer func() { err = errors.Join(err, loaded.Close()) }()
	info := loaded.Info()
	if served.Name == "" {
		served.Name = info.Name + suffix
	}
	if info.TrainContext > 0 && info.Context > info.TrainContext {
		fmt.Fprintf(a.stderr, "lathe: warning: a context of %d tokens is longer than the %d that the model was trained on\n", info.Context, info.TrainContext)
	}
	a.warnFallback(info)
	if info.GPULayers > 0 {
		fmt.Fprintf(a.stderr, "lathe: %s\n", info.Placement)
	}
	fmt.Fprintf(a.stderr, "lathe: serving %s at http://%s/v1\n", served.Name, l.Addr())
	return openai.Serve(ctx, l, openai.New(loaded, served))
}
