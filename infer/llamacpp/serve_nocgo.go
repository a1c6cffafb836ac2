//go:build !cgo || nocgo

package llamacpp

import (
	"io"

	"github.com/lathe-llm/lathe/infer"
)

const engineName = ""

// serve answers every request with infer.ErrUnavailable.
func serve(in io.Reader, out io.Writer) error {
	if err := writeFrame(out, 0, kindHello, helloReply{Version: protocolVersion}); err != nil {
		return err
	}
	for {
		f, err := readFrame(in)
		if err != nil {
			return err
		}
		if f.Kind == kindAbort || f.Kind == kindThreads {
			continue
		}
		if err := writeFrame(out, f.ID, kindFailure, failureOf(infer.ErrUnavailable)); err != nil {
			return err
		}
	}
}
