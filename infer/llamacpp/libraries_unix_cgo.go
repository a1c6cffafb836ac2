//go:build cgo && !nocgo && unix

package llamacpp

/*
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ggml_backend_reg;
struct ggml_backend_reg * ggml_backend_load(const char * path);
size_t ggml_backend_reg_dev_count(struct ggml_backend_reg * reg);

typedef void (*lathe_log)(int level, const char * text, void * to);

// The newest error that a library logs.
struct lathe_error { char text[512]; };

static void lathe_keep(int level, const char * text, void * to) {
	struct lathe_error * error = to;
	fputs(text, stderr);
	if (level == 4) { // GGML_LOG_LEVEL_ERROR
		snprintf(error->text, sizeof error->text, "%s", text);
	}
}

// lathe_open loads a library, which stays loaded, and returns NULL, or the reason why the loader refuses it. usable is 0 for one
// that finds no device; error is then what it logs about it. ggml logs through a copy of its own that the library brings along.
static const char * lathe_open(const char * path, int * usable, struct lathe_error * error) {
	void * library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	struct ggml_backend_reg * (*init)(void) = NULL;
	if (library) {
		init = (struct ggml_backend_reg * (*)(void)) dlsym(library, "ggml_backend_init");
	}
	if (!init) {
		const char * why = dlerror();
		return why ? why : "unknown reason";
	}
	void (*get)(lathe_log *, void **) = (void (*)(lathe_log *, void **)) dlsym(library, "ggml_log_get");
	void (*set)(lathe_log, void *) = (void (*)(lathe_log, void *)) dlsym(library, "ggml_log_set");
	lathe_log before = NULL;
	void * data = NULL;
	if (get && set) {
		get(&before, &data);
		set(lathe_keep, error);
	}
	*usable = init() != NULL;
	if (get && set) {
		set(before, data);
	}
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
	var logged C.struct_lathe_error
	if why := C.lathe_open(name, &usable, &logged); why != nil {
		text := C.GoString(why)
		if !strings.Contains(text, filepath.Base(path)) {
			text = filepath.Base(path) + ": " + text
		}
		return errors.New(text)
	}
	if usable != 0 {
		reg := C.ggml_backend_load(name)
		if reg == nil {
			return fmt.Errorf("%s: is of another version of ggml", filepath.Base(path))
		}
		if C.ggml_backend_reg_dev_count(reg) > 0 {
			return nil
		}
	}
	why := strings.Join(strings.Fields(C.GoString(&logged.text[0])), " ")
	if why != "" {
		why = ": " + why
	}
	return fmt.Errorf("%s: %s%s", filepath.Base(path), noDriver, why)
}
