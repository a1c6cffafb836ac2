//go:build !linux

package engine

import "context"

// Others implements [explorer.Runner]. It is not known how busy the processors of this system are.
func (m *model) Others(context.Context) (busy float64, of int, known bool) { return 0, 0, false }
