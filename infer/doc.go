// Package infer defines what lathe needs of an engine that runs language models, and the values that pass between an
// engine and its callers. It runs nothing itself: package llamacpp implements [Engine] over llama.cpp in a child process,
// package fake over a byte n-gram in memory. Code that uses models takes an Engine and works with either. Package
// infertest holds the tests that every implementation passes.
//
//	engine, err := llamacpp.New(llamacpp.Options{})
//	…
//	model, err := engine.Load(ctx, infer.Defaults("model.gguf"), nil)
//	…
//	defer model.Close()
//	stats, err := model.Chat(ctx, []infer.Message{{Role: infer.User, Content: "Hello"}}, infer.Sampling{MaxTokens: 64},
//		func(t infer.Token) error { _, err := io.WriteString(w, t.Text); return err })
//
// # Concurrency
//
// Engines and models are safe for concurrent use. A model serves one call at a time; other calls wait in its queue
// ([Model.Queue], [WithQueueTrace]), in which owners take turns ([WithQueueOwner]). Cancelling a call's context ends the
// call, whether it waits or computes, and leaves the model usable.
//
// # Errors
//
// Every error of an engine is one line and wraps a cause. Callers branch with [errors.Is] on the sentinels of this package,
// on context.Canceled and context.DeadlineExceeded, and on the errors of package io/fs for a file that cannot be opened.
package infer
