// Package openai serves a loaded model over HTTP with OpenAI's interface, so that its clients, and lm-evaluation-harness, can
// use and test the model: chat and text completions with streaming and log-probabilities, log-probabilities of the prompt
// (echo), and the list of models.
//
//	handler := openai.New(model, openai.Options{})
//	listener, err := openai.Listen("127.0.0.1:8080", "")
//	…
//	err = openai.Serve(ctx, listener, handler)
//
// # Access
//
// [Listen] refuses an address beyond the loopback interface unless a key is set. With a key, every request but /health must
// carry it as a bearer token. Without one, requests must name a loopback host, so that a web page whose own host name resolves
// to this machine (DNS rebinding) gets nothing; and bodies must be declared as JSON, which a page of another origin cannot send
// without permission.
//
// # Order
//
// The model generates for one request at a time, in order of arrival. A streaming request that waits receives its queue
// position in comments of the stream, and /health returns the number of waiting requests. Beyond [Options.MaxWaiting], requests
// are refused.
//
// # What is refused
//
// A request that asks for something unsupported that would change the answer (tools, images, penalties, several answers to one
// prompt) is an error: an answer that ignored it would be measured as something else.
package openai
