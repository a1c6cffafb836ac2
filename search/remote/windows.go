package remote

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// windowsMagic begins a file of windows.
const windowsMagic = "lathewin"

// EncodeWindows returns windows of equal lengths as a file: magic, number and length of windows, and tokens, as little-endian numbers
// of 32 bits.
func EncodeWindows(windows [][]int32) []byte {
	seq := 0
	if len(windows) > 0 {
		seq = len(windows[0])
	}
	out := binary.LittleEndian.AppendUint32([]byte(windowsMagic), uint32(len(windows)))
	out = binary.LittleEndian.AppendUint32(out, uint32(seq))
	for _, w := range windows {
		for _, v := range w {
			out = binary.LittleEndian.AppendUint32(out, uint32(v))
		}
	}
	return out
}

// maxWindowsBytes bounds a file of windows.
const maxWindowsBytes = 1 << 30

// DecodeWindows reads a file of windows for a model with so many tokens in its vocabulary.
func DecodeWindows(data []byte, vocab int) ([][]int32, error) {
	const start = len(windowsMagic) + 8
	if len(data) < start || !bytes.HasPrefix(data, []byte(windowsMagic)) {
		return nil, fmt.Errorf("%w: the text does not begin with the magic", errMessage)
	}
	n, seq := int64(binary.LittleEndian.Uint32(data[start-8:])), int64(binary.LittleEndian.Uint32(data[start-4:]))
	if n == 0 || seq < 2 || n*seq > maxWindowsBytes/4 || int64(len(data)-start) != 4*n*seq {
		return nil, fmt.Errorf("%w: the text has %d bytes for %d windows of %d tokens", errMessage, len(data)-start, n, seq)
	}
	out := make([][]int32, n)
	for i := range out {
		out[i] = make([]int32, seq)
		for k := range out[i] {
			v := int32(binary.LittleEndian.Uint32(data[start:][4*(int64(i)*seq+int64(k)):]))
			if v < 0 || int(v) >= vocab {
				return nil, fmt.Errorf("%w: token %d of window %d of the text is %d, the model has %d", errMessage, k, i, v, vocab)
			}
			out[i][k] = v
		}
	}
	return out, nil
}
