//go:build cgo && !nocgo && unix

package llamacpp

/*
#include <dlfcn.h>
#include <stdlib.h>

struct ggml_backend_reg;
struct ggml_backend_reg * ggml_backend_load(const char * path);

// lathe_open loads a library and returns NULL, or the reason why the loader refuses it. The library stays loaded.
static const char * lathe_open(const char * path) {
	if (dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
		return NULL;
	}
	const char * why = dlerror();
	return why ? why : "unknown reason";
}
*/
import "C"

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unsafe"
)

// openLibrary makes the devices of a GPU library available.
func openLibrary(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	if why := C.lathe_open(name); why != nil {
		text := C.GoString(why)
		if !strings.Contains(text, filepath.Base(path)) {
			text = filepath.Base(path) + ": " + text
		}
		return errors.New(text)
	}
	if C.ggml_backend_load(name) == nil {
		return fmt.Errorf("%s: finds no driver for it, or is of another version of ggml", filepath.Base(path))
	}
	return nil
}
