// Package infer says what lathe asks of an engine that runs language models, and holds the values that travel between
// an engine and its users. It runs nothing itself: package llamacpp implements [Engine] over llama.cpp in a child
// process, package fake over a byte n-gram in memory, and code that uses models takes an Engine and works with either.
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
// Engines and models may be used from any goroutine. A model does one thing at a time; callers wait in a line ([Model.Queue],
// [WithQueueTrace]) in which owners take turns ([WithQueueOwner]). Cancelling a call's context ends it, also while it waits
// and while it computes, and leaves the model usable.
//
// # Errors
//
// Every error of an engine is one line and wraps a cause. Callers branch with [errors.Is] on the sentinels of this package
// and on context.Canceled and context.DeadlineExceeded.
package infer
