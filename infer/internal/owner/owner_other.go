//go:build !unix

package owner

import "os"

// Mark does nothing on systems without advisory locks.
func Mark(*os.File) (mark *os.File, exists bool) { return nil, true }

func removeUnowned(string) {}
