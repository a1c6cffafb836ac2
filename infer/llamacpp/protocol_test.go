package llamacpp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

func TestFrames(t *testing.T) {
	nan := float32(math.NaN())
	sent := positionsEvent{
		NLL: floats{1.5, nan, float32(math.Inf(1))}, Greedy: []bool{true, false, true},
		Top: tokens{1, -2, math.MaxInt32}, TopProbs: floats{-0.1, -3, float32(math.Inf(-1))}, At: floats{},
	}
	var pipe bytes.Buffer
	if err := writeFrame(&pipe, 7, kindEvent, sent); err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(&pipe, 8, kindAbort, nil); err != nil {
		t.Fatal(err)
	}
	f, err := readFrame(&pipe)
	if err != nil || f.ID != 7 || f.Kind != kindEvent {
		t.Fatalf("read %+v, %v", f, err)
	}
	got, err := decode[positionsEvent](f)
	if err != nil {
		t.Fatal(err)
	}
	if math.Float32bits(got.NLL[1]) != math.Float32bits(nan) {
		t.Error("NaN did not survive")
	}
	got.NLL[1], sent.NLL[1] = 0, 0
	got.At = floats{}
	if !reflect.DeepEqual(got, sent) {
		t.Errorf("got %+v, want %+v", got, sent)
	}
	if f, err = readFrame(&pipe); err != nil || f.ID != 8 || f.Kind != kindAbort || f.Body != nil {
		t.Errorf("read %+v, %v", f, err)
	}
	if _, err = readFrame(&pipe); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestBadFrames(t *testing.T) {
	length := func(n uint32, rest string) string {
		return string(binary.LittleEndian.AppendUint32(nil, n)) + rest
	}
	for name, in := range map[string]string{
		"cut in the length":  "\x01\x00",
		"cut in the message": length(100, "{}"),
		"too long":           length(maxFrame+1, "{}"),
		"longest, not there": length(maxFrame, "{}"),
		"no JSON":            length(5, "hello"),
		"another type":       length(2, "[]"),
		"empty":              length(0, ""),
	} {
		if f, err := readFrame(strings.NewReader(in)); !errors.Is(err, errProtocol) {
			t.Errorf("%s: read %+v, %v", name, f, err)
		}
	}
	if err := writeFrame(io.Discard, 1, kindGenerate, math.NaN()); !errors.Is(err, errMessage) {
		t.Errorf("JSON has no NaN: %v", err)
	}
	if _, err := decode[tokensReply](frame{Kind: kindResult, Body: json.RawMessage(`{"Tokens":"AAA="}`)}); !errors.Is(err, errProtocol) {
		t.Errorf("three bytes are no token: %v", err)
	}
	if _, err := decode[tokensReply](frame{Kind: kindResult}); !errors.Is(err, errProtocol) {
		t.Errorf("no body: %v", err)
	}
}

func TestFailures(t *testing.T) {
	for _, sentinel := range failureCodes() {
		err := failureOf(errors.Join(sentinel)).err()
		if !errors.Is(err, sentinel) {
			t.Errorf("%v is not preserved: %v", sentinel, err)
		}
	}
	if err := failureOf(io.ErrShortWrite).err(); err.Error() != io.ErrShortWrite.Error() {
		t.Errorf("got %v", err)
	}
	if err := (failure{Code: "from the future", Message: "x"}).err(); err.Error() != "x" {
		t.Errorf("got %v", err)
	}
}

// FuzzFrames reads arbitrary bytes of a broken child: each frame is an error or a message, and fields that do not fit
// together are refused.
func FuzzFrames(f *testing.F) {
	seed := func(k kind, body any) {
		var b bytes.Buffer
		if err := writeFrame(&b, 1, k, body); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	seed(kindEvent, positionsEvent{NLL: floats{1, 2}, Greedy: []bool{true, false}, Top: tokens{1, 2}, TopProbs: floats{1, 2}})
	seed(kindEvent, tokenEvent{ID: 1, Text: "x", Top: []topTokenWire{{1, []byte("y"), -1}}})
	seed(kindResult, generateReply{infer.GenStats{Tokens: 3}})
	seed(kindFailure, failureOf(infer.ErrBadModel))
	seed(kindHello, helloReply{protocolVersion, "x"})
	seed(kindResult, loadReply{Vocab: 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			f, err := readFrame(r)
			if err != nil {
				return
			}
			if e, err := decode[positionsEvent](f); err == nil && e.check(0, 2, nil) == nil {
				_ = collect(nil, e, nil)
			}
			_, _ = decode[tokenEvent](f)
			_, _ = decode[generateReply](f)
			_, _ = decode[helloReply](f)
			_, _ = decode[loadReply](f)
			if e, err := decode[failure](f); err == nil {
				_ = e.err().Error()
			}
		}
	})
}
