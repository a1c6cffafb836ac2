package llamacpp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/plain"
)

// protocolVersion changes with every change of the messages, so that an executable that was replaced while its parent runs is
// detected.
const protocolVersion = 8

// maxFrame bounds a frame in bytes. The largest are texts to tokenize and their tokens.
const maxFrame = 256 << 20

// kind is the type of a message.
type kind string

// Requests, from the parent.
const (
	kindOpen     kind = "open"     // openRequest -> openReply
	kindDevices  kind = "devices"  // nothing -> devicesReply
	kindLoad     kind = "load"     // loadRequest -> progress… loadReply
	kindTokenize kind = "tokenize" // tokenizeRequest -> tokensReply
	kindPieces   kind = "pieces"   // piecesRequest -> piecesReply
	kindPrompt   kind = "prompt"   // promptRequest -> promptReply
	kindGenerate kind = "generate" // generateRequest -> token… generateReply
	kindScore    kind = "score"    // scoreRequest -> positions… nothing
	kindBench    kind = "bench"    // infer.BenchTest -> benchReply
	kindAbort    kind = "abort"    // of the request with the frame's id; not answered itself
	kindThreads  kind = "threads"  // threadsRequest; not answered
)

// Answers, from the child.
const (
	kindHello   kind = "hello" // the first frame: helloReply
	kindEvent   kind = "event" // progress, token or positions of the running request
	kindResult  kind = "result"
	kindFailure kind = "failure" // failure
)

// frame is one message. An answer has the ID of its request.
type frame struct {
	ID   uint64          `json:"id"`
	Kind kind            `json:"kind"`
	Body json.RawMessage `json:"body,omitempty"`
}

var errProtocol = errors.New("engine protocol")

// errMessage means that a message cannot be encoded. Nothing of it was sent.
var errMessage = errors.New("engine message")

// writeFrame sends one message in a single Write.
func writeFrame(w io.Writer, id uint64, k kind, body any) error {
	f := frame{ID: id, Kind: k}
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%w %s: %w", errMessage, k, err)
		}
		f.Body = data
	}
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if err := checkLength(int64(len(data))); err != nil {
		return err
	}
	out := make([]byte, 4, 4+len(data))
	binary.LittleEndian.PutUint32(out, uint32(len(data)))
	_, err = w.Write(append(out, data...))
	return err
}

// readFrame reads one message. io.EOF means that the other end closed between messages.
func readFrame(r io.Reader) (frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return frame{}, fmt.Errorf("%w: truncated length", errProtocol)
		}
		return frame{}, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if err := checkLength(n); err != nil {
		return frame{}, err
	}
	var data bytes.Buffer // grows with the bytes that arrive, whatever the length claims
	if _, err := io.CopyN(&data, r, n); err != nil {
		return frame{}, fmt.Errorf("%w: %d of %d bytes of a message: %w", errProtocol, data.Len(), n, err)
	}
	var f frame
	if err := json.Unmarshal(data.Bytes(), &f); err != nil {
		return frame{}, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return f, nil
}

func checkLength(n int64) error {
	if n > maxFrame {
		return fmt.Errorf("%w: a message of %d bytes, more than %d", errProtocol, n, maxFrame)
	}
	return nil
}

// decode reads the body of f into a T.
func decode[T any](f frame) (T, error) {
	var body T
	if len(f.Body) == 0 {
		return body, fmt.Errorf("%w: %s without a body", errProtocol, f.Kind)
	}
	if err := json.Unmarshal(f.Body, &body); err != nil {
		return body, fmt.Errorf("%w: %s: %w", errProtocol, f.Kind, err)
	}
	return body, nil
}

// floats are encoded as base64 of their little-endian bits.
type floats []float32

// MarshalJSON implements [json.Marshaler].
func (x floats) MarshalJSON() ([]byte, error) {
	data := make([]byte, 0, 4*len(x))
	for _, v := range x {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return json.Marshal(data)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (x *floats) UnmarshalJSON(text []byte) error {
	words, err := unmarshalWords(text)
	if err != nil {
		return err
	}
	*x = make(floats, len(words))
	for i, w := range words {
		(*x)[i] = math.Float32frombits(w)
	}
	return nil
}

// tokens are encoded like floats.
type tokens []int32

// MarshalJSON implements [json.Marshaler].
func (x tokens) MarshalJSON() ([]byte, error) {
	data := make([]byte, 0, 4*len(x))
	for _, v := range x {
		data = binary.LittleEndian.AppendUint32(data, uint32(v))
	}
	return json.Marshal(data)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (x *tokens) UnmarshalJSON(text []byte) error {
	words, err := unmarshalWords(text)
	if err != nil {
		return err
	}
	*x = make(tokens, len(words))
	for i, w := range words {
		(*x)[i] = int32(w)
	}
	return nil
}

func unmarshalWords(text []byte) ([]uint32, error) {
	var data []byte
	if err := json.Unmarshal(text, &data); err != nil {
		return nil, err
	}
	if len(data)%4 != 0 {
		return nil, fmt.Errorf("%d bytes are not a multiple of 4", len(data))
	}
	words := make([]uint32, len(data)/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	return words, nil
}

type helloReply struct {
	Version int
	Engine  string // "" where the build has none
}

// openRequest names GPU libraries to load, before any other request.
type openRequest struct{ Paths []string }

// openReply has one line for each library that does not load.
type openReply struct{ Failed []string }

type devicesReply struct{ Devices []infer.Device }

type loadRequest struct {
	Path           string
	Context        int
	Threads        int
	Batch          int
	GPULayers      int
	FlashAttention bool
	KVType         string
	Ends           []int32 // end tokens beside those that llama.cpp finds

	// Steps of the tokenizer that llama.cpp has none for, see [gguf.TextSteps].
	Compose, SpacePrefix bool
	Whole                gguf.WholeTokens
}

type loadReply struct {
	Type           string
	Params         int64
	WeightBytes    int64
	Layers, Hidden int
	Vocab          int
	TrainContext   int
	Context        int
	BOS, EOS       int32
	AddBOS         bool
	LongestToken   int
}

type tokenizeRequest struct {
	Text    []byte // not necessarily UTF-8
	Special bool
}

type tokensReply struct{ Tokens tokens }

type piecesRequest struct{ Tokens tokens }

// piecesReply has one value for each token.
type piecesReply struct {
	Pieces  [][]byte
	Control []bool
}

type promptRequest struct {
	Template string // Jinja source; "" where the file has none
	Source   string // the file's name, for errors
	infer.Conversation

	// Without a template: control tokens of the vocabulary, for llama.cpp's detection of a format, and the format of the
	// model's family where that fails.
	Marks, Format string
}

type promptReply struct {
	Text    string
	Tokens  tokens
	Warning string
	Stops   []string // texts that end a reply, in a built-in format
}

type generateRequest struct {
	Prompt   tokens
	Sampling infer.Sampling
}

type tokenEvent struct {
	ID      int32
	Text    string
	Control bool           `json:",omitempty"`
	Piece   []byte         `json:",omitempty"`
	LogProb float64        `json:",omitempty"`
	Top     []topTokenWire `json:",omitempty"`
}

type topTokenWire struct {
	ID      int32
	Text    []byte // may be a part of a rune
	LogProb float64
}

type generateReply struct{ Stats infer.GenStats }

type scoreRequest struct {
	Window tokens
	From   int // first position scored, at least 1
	Top    int
	At     []tokens
}

// positionsEvent holds n consecutive positions of the running window: NLL and Greedy have n values, Top and TopProbs n·k, At
// one for each requested token.
type positionsEvent struct {
	NLL      floats
	Greedy   []bool
	Top      tokens `json:",omitempty"`
	TopProbs floats `json:",omitempty"`
	At       floats `json:",omitempty"`
}

type progressEvent struct{ Share float64 }

type benchReply struct{ Seconds float64 }

type threadsRequest struct{ Threads int }

// failure is an error sent to the parent. Code identifies its sentinel.
type failure struct {
	Code    string
	Message string
}

// failureCodes returns the sentinels that are preserved across the pipe.
func failureCodes() map[string]error {
	return map[string]error{
		"bad model":    infer.ErrBadModel,
		"context full": infer.ErrContextFull,
		"invalid":      infer.ErrInvalid,
		"bad token":    infer.ErrBadToken,
		"not finite":   infer.ErrNotFinite,
		"unavailable":  infer.ErrUnavailable,
		"aborted":      errAborted,
		"template":     infer.ErrTemplate,
	}
}

var errAborted = errors.New("aborted")

func failureOf(err error) failure {
	for code, sentinel := range failureCodes() {
		if errors.Is(err, sentinel) { // no error wraps two of them
			return failure{Code: code, Message: plain.Error(err)}
		}
	}
	return failure{Message: plain.Error(err)}
}

// err returns an error with the text it had in the child, which wraps its sentinel.
func (f failure) err() error {
	if sentinel, ok := failureCodes()[f.Code]; ok {
		return &remoteError{f.Message, sentinel}
	}
	return errors.New(f.Message)
}

type remoteError struct {
	message  string
	sentinel error
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.sentinel }
