//go:build !unix

package llamacpp

import "time"

func processTime() (t time.Duration, ok bool) { return 0, false }
