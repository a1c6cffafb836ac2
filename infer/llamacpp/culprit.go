package llamacpp

import (
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// explainNumbers adds to the error of a NaN which of the file's tensors has it.
func (m *Model) explainNumbers(err error) error {
	if !errors.Is(err, infer.ErrNotFinite) {
		return err
	}
	m.culprit.Do(func() { m.broken = notFiniteTensor(m.plan.request.Path) })
	if m.broken == "" {
		return err
	}
	return fmt.Errorf("%w: the tensor %s of the file contains NaN or infinite numbers", err, m.broken)
}

// notFiniteTensor returns the name of the first tensor of a file that contains NaN or infinite numbers; "" if there is none, or
// none among the tensors that are read in a few seconds.
func notFiniteTensor(path string) string {
	const most = 256 << 20 // elements
	f, err := gguf.Open(path)
	if err != nil {
		return "" // the error at hand is the one to report
	}
	defer func() { _ = f.Close() }() // only read
	read := int64(0)
	for _, t := range f.Tensors() {
		if read+t.Elements() > most {
			continue
		}
		read += t.Elements()
		values, _, err := f.Float32(t.Name)
		if err != nil {
			continue
		}
		for _, v := range values {
			if v-v != 0 {
				return t.Name
			}
		}
	}
	return ""
}
