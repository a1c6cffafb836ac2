//go:build cgo && !nocgo && unix

package llamacpp

/*
#include <dlfcn.h>
#include <stdlib.h>

struct ggml_backend_reg;
struct ggml_backend_reg * ggml_backend_load(const char * path);

// lathe_open loads a library, which stays loaded, and returns NULL, or the reason why the loader refuses it. usable is 0 for one
// that finds no device.
static const char * lathe_open(const char * path, int * usable) {
	void * library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	struct ggml_backend_reg * (*init)(void) = NULL;
	if (library) {
		init = (struct ggml_backend_reg * (*)(void)) dlsym(library, "ggml_backend_init");
	}
	if (!init) {
		const char * why = dlerror();
		return why ? why : "unknown reason";
	}
	*usable = init() != NULL;
	return NULL;
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
	var usable C.int
	if why := C.lathe_open(name, &usable); why != nil {
		text := C.GoString(why)
		if !strings.Contains(text, filepath.Base(path)) {
			text = filepath.Base(path) + ": " + text
		}
		return errors.New(text)
	}
	if usable == 0 {
		return fmt.Errorf("%s: %s", filepath.Base(path), noDriver)
	}
	if C.ggml_backend_load(name) == nil {
		return fmt.Errorf("%s: is of another version of ggml", filepath.Base(path))
	}
	return nil
}
