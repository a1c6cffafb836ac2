package explorer

import "github.com/lathe-llm/lathe/infer/subnet"

// NotSmaller returns why a file with the masks now, of b bytes, is not smaller than one with the masks was, of a bytes, although it keeps
// fewer parameters; "" where it is smaller or keeps as many.
func NotSmaller(was, now subnet.Masks, a, b int64) string {
	if a <= 0 || b < a {
		return ""
	}
	before, after := was.Size(), now.Size()
	switch {
	case after.Ratio >= before.Ratio && after.ZeroedParams <= before.ZeroedParams:
		return ""
	case after.ZeroedParams > before.ZeroedParams:
		return "dropped units are stored as zeros"
	}
	const block = 32 // values that quantised types store together
	for i := range now.Layers() {
		if n := now.Layer(i).Channels.Len(); n%block != 0 && n != was.Layer(i).Channels.Len() {
			return "widths not × 32 take larger types"
		}
	}
	return "the format adds more than is dropped"
}
