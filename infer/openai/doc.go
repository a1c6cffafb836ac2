// Package openai serves a loaded model over HTTP in the form of OpenAI's interface, so that any client of it, or
// lm-evaluation-harness, can use and test the model: chat and text completions with streaming and log-probabilities,
// log-probabilities of the prompt (echo), and the list of models.
//
//	handler, err := openai.New(model, openai.Options{})
//	…
//	listener, err := openai.Listen("127.0.0.1:8080", "")
//	…
//	err = openai.Serve(ctx, listener, handler)
//
// # Access
//
// [Listen] refuses an address beyond the loopback interface unless a key is set. With a key, every request but /health must
// carry it as a bearer token. Without one, requests must name a loopback host, so that a web page that has a name of its own
// resolve to this machine gets nothing; and bodies must be declared as JSON, which no page can send elsewhere unasked.
//
// # Order
//
// The model generates for one request at a time, in order of arrival; a request that waits while streaming is told its
// place in comments of the stream, and /health says how many wait. Beyond [Options.MaxWaiting] requests are turned away.
//
// # What is refused
//
// What would change the answer and is not supported (tools, images, penalties, several answers to one prompt) is an error and
// not ignored, so that nobody measures something else than they asked for.
package openai
