//go:build cgo && !nocgo

package llamacpp

/*
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Functions of llama.cpp and ggml that the Go package does not export, declared by hand: the headers are not on the include
// path of other packages. All take opaque pointers and scalars only, so that no struct layout is repeated here. They link
// against the objects that the Go package compiles; a missing name fails the build.
struct llama_context;
struct llama_model;
struct llama_vocab;
struct llama_memory_i;
struct ggml_backend_device;

// The one struct: two texts.
struct llama_chat_message { const char * role; const char * content; };
int32_t llama_chat_apply_template(const char * tmpl, const struct llama_chat_message * chat, size_t n_msg, bool add_ass, char * buf, int32_t length);
int32_t llama_chat_builtin_templates(const char ** output, size_t len);

void llama_free(struct llama_context * ctx);
void llama_set_embeddings(struct llama_context * ctx, bool embeddings);
void llama_set_n_threads(struct llama_context * ctx, int32_t n_threads, int32_t n_threads_batch);
void llama_set_abort_callback(struct llama_context * ctx, bool (*abort_callback)(void * data), void * data);
float * llama_get_logits_ith(struct llama_context * ctx, int32_t i);
uint32_t llama_n_ctx(const struct llama_context * ctx);
int32_t llama_model_n_ctx_train(const struct llama_model * model);
int32_t llama_model_n_layer(const struct llama_model * model);
int32_t llama_model_desc(const struct llama_model * model, char * buf, size_t buf_size);
uint64_t llama_model_size(const struct llama_model * model);
uint64_t llama_model_n_params(const struct llama_model * model);
int32_t llama_vocab_bos(const struct llama_vocab * vocab);
int32_t llama_vocab_eos(const struct llama_vocab * vocab);
int llama_vocab_get_attr(const struct llama_vocab * vocab, int32_t token);
int32_t llama_token_to_piece(const struct llama_vocab * vocab, int32_t token, char * buf, int32_t length, int32_t lstrip, bool special);

size_t ggml_backend_dev_count(void);
struct ggml_backend_device * ggml_backend_dev_get(size_t index);
const char * ggml_backend_dev_name(struct ggml_backend_device * device);
const char * ggml_backend_dev_description(struct ggml_backend_device * device);
void ggml_backend_dev_memory(struct ggml_backend_device * device, size_t * free, size_t * total);
int ggml_backend_dev_type(struct ggml_backend_device * device);

// The beginning of struct ggml_backend_dev_props, whose layout lathe_device_id checks.
struct lathe_dev_props {
	const char * name;
	const char * description;
	size_t memory_free;
	const char * id;
	size_t memory_total;
	int type;
	const char * device_id;
};
void ggml_backend_dev_get_props(struct ggml_backend_device * device, void * props);

// lathe_device_id returns the PCI address of a device, NULL if it is not known.
static const char * lathe_device_id(struct ggml_backend_device * device) {
	union { struct lathe_dev_props props; char room[4096]; } u = {{0}};
	ggml_backend_dev_get_props(device, &u);
	if (u.props.name != ggml_backend_dev_name(device) || u.props.type != ggml_backend_dev_type(device)) {
		return NULL;
	}
	return u.props.device_id;
}

// lathe_aborted is called by ggml between the nodes of a graph, from its own threads, which must not run Go code.
static bool lathe_aborted(void * flag) {
	return __atomic_load_n((int32_t *) flag, __ATOMIC_RELAXED) != 0;
}

static void lathe_set_abort_flag(struct llama_context * ctx, int32_t * flag) {
	llama_set_abort_callback(ctx, lathe_aborted, flag);
}
*/
import "C"

import (
	"fmt"
	"reflect"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/lathe-llm/lathe/infer"
	"github.com/ollama/ollama/llama"
)

// Values of enum ggml_backend_dev_type.
const (
	deviceGPU  = 1
	deviceIGPU = 2
)

// native is the C side of a loaded model. flag lives in C memory because ggml reads it from its own threads.
type native struct {
	ctx   *C.struct_llama_context
	model *C.struct_llama_model
	vocab *C.struct_llama_vocab
	flag  *C.int32_t
}

// newNative extracts the C pointers from the Go package's values and installs the abort flag. Free it before the model.
func newNative(ctx *llama.Context, model *llama.Model) (*native, error) {
	c, err := pointerIn(ctx)
	if err != nil {
		return nil, err
	}
	m, err := pointerIn(model)
	if err != nil {
		return nil, err
	}
	n := &native{
		ctx:   (*C.struct_llama_context)(c),
		model: (*C.struct_llama_model)(m),
		vocab: (*C.struct_llama_vocab)(unsafe.Pointer(model.Vocab())),
		flag:  (*C.int32_t)(C.calloc(1, C.sizeof_int32_t)),
	}
	C.lathe_set_abort_flag(n.ctx, n.flag)
	// The Go package requests embeddings beside the logits, which would be computed and copied for every token.
	C.llama_set_embeddings(n.ctx, false)
	return n, nil
}

// pointerIn returns the C pointer in the unexported first field, named c, of a value of package llama. It checks the layout,
// which the compiler cannot.
func pointerIn(value any) (unsafe.Pointer, error) {
	v := reflect.ValueOf(value).Elem()
	if v.NumField() == 0 || v.Type().Field(0).Name != "c" || v.Field(0).Kind() != reflect.Pointer {
		return nil, fmt.Errorf("%s has an unknown layout: this build needs another version of the bindings", v.Type())
	}
	return v.Field(0).UnsafePointer(), nil
}

func (n *native) free() {
	C.llama_free(n.ctx)
	C.free(unsafe.Pointer(n.flag))
	n.ctx, n.flag = nil, nil
}

func (n *native) setAbort(abort bool) {
	value := int32(0)
	if abort {
		value = 1
	}
	atomic.StoreInt32((*int32)(unsafe.Pointer(n.flag)), value)
}

func (n *native) aborted() bool { return atomic.LoadInt32((*int32)(unsafe.Pointer(n.flag))) != 0 }

func (n *native) setThreads(threads int) {
	C.llama_set_n_threads(n.ctx, C.int32_t(threads), C.int32_t(threads))
}

// logits returns those of the i-th token of the last batch, [vocab], valid until the next batch; nil if they were not
// requested.
func (n *native) logits(i, vocab int) []float32 {
	p := C.llama_get_logits_ith(n.ctx, C.int32_t(i))
	if p == nil {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(p)), vocab)
}

func (n *native) context() int { return int(C.llama_n_ctx(n.ctx)) }

func (n *native) describe(r *loadReply) {
	buf := make([]byte, 256)
	length := C.llama_model_desc(n.model, (*C.char)(unsafe.Pointer(&buf[0])), C.size_t(len(buf)))
	r.Type = string(buf[:min(max(int(length), 0), len(buf)-1)])
	r.Params = int64(C.llama_model_n_params(n.model))
	r.WeightBytes = int64(C.llama_model_size(n.model))
	r.Layers = int(C.llama_model_n_layer(n.model))
	r.TrainContext = int(C.llama_model_n_ctx_train(n.model))
	r.BOS = int32(C.llama_vocab_bos(n.vocab))
	r.EOS = int32(C.llama_vocab_eos(n.vocab))
	r.Context = n.context()
}

// piece returns the bytes of a token, control tokens spelled out.
func (n *native) piece(token int32) []byte {
	buf := make([]byte, 32)
	length := C.llama_token_to_piece(n.vocab, C.int32_t(token), (*C.char)(unsafe.Pointer(&buf[0])), C.int32_t(len(buf)), 0, true)
	if length < 0 {
		buf = make([]byte, -length)
		length = C.llama_token_to_piece(n.vocab, C.int32_t(token), (*C.char)(unsafe.Pointer(&buf[0])), C.int32_t(len(buf)), 0, true)
	}
	return buf[:max(length, 0)]
}

// Values of enum llama_token_attr.
const (
	attrUnknown = 1 << 0
	attrControl = 1 << 3
	attrUser    = 1 << 4
	attrLStrip  = 1 << 7
	attrRStrip  = 1 << 8
)

// attributes returns those of a token.
func (n *native) attributes(token int32) int {
	return int(C.llama_vocab_get_attr(n.vocab, C.int32_t(token)))
}

// isControl reports whether a token structures the text and is no part of it.
func (n *native) isControl(token int32) bool {
	return n.attributes(token)&(attrControl|attrUnknown) != 0
}

// listDevices returns ggml's devices with the memory free now.
func listDevices() []infer.Device {
	var out []infer.Device
	for i := range C.ggml_backend_dev_count() {
		d := C.ggml_backend_dev_get(i)
		var free, total C.size_t
		C.ggml_backend_dev_memory(d, &free, &total)
		kind := C.ggml_backend_dev_type(d)
		out = append(out, infer.Device{
			Name:        C.GoString(C.ggml_backend_dev_name(d)),
			Description: C.GoString(C.ggml_backend_dev_description(d)),
			GPU:         kind == deviceGPU || kind == deviceIGPU,
			Integrated:  kind == deviceIGPU,
			ID:          C.GoString(C.lathe_device_id(d)),
			Free:        int64(free), Total: int64(total),
		})
	}
	return out
}

// formats returns the names of llama.cpp's built-in chat formats.
func formats() []string {
	n := C.llama_chat_builtin_templates(nil, 0)
	if n <= 0 {
		return nil
	}
	names := (*[1 << 16]*C.char)(C.calloc(C.size_t(n), C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	defer C.free(unsafe.Pointer(names))
	C.llama_chat_builtin_templates(&names[0], C.size_t(n))
	out := make([]string, n)
	for i := range out {
		out[i] = C.GoString(names[i])
	}
	return out
}

// applyFormat renders messages in the built-in format of a name, or in the one that llama.cpp detects in a text. It returns
// false if there is none. No text may contain a NUL.
func applyFormat(format string, messages []infer.Message) (string, bool) {
	name := C.CString(format)
	defer C.free(unsafe.Pointer(name))
	chat := make([]C.struct_llama_chat_message, len(messages)+1)
	size := 0
	var pins runtime.Pinner
	defer pins.Unpin()
	text := func(s string) *C.char {
		b := append([]byte(s), 0)
		pins.Pin(&b[0])
		return (*C.char)(unsafe.Pointer(&b[0]))
	}
	for i, m := range messages {
		chat[i].role, chat[i].content = text(m.Role), text(m.Content)
		size += len(m.Role) + len(m.Content) + 64
	}
	for {
		buf := make([]byte, size+64)
		n := int(C.llama_chat_apply_template(name, &chat[0], C.size_t(len(messages)), true, (*C.char)(unsafe.Pointer(&buf[0])), C.int32_t(len(buf))))
		switch {
		case n < 0:
			return "", false
		case n <= len(buf):
			return string(buf[:n]), true
		}
		size = n
	}
}
