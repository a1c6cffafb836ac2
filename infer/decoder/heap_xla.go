//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla

package decoder

// #include <stdint.h>
// #include <stdlib.h>
// #ifdef __GLIBC__
// #include <malloc.h>
// #include <sys/mman.h>
// #include <unistd.h>
//
// static uintptr_t keep_freed_memory(void) {
// 	mallopt(M_MMAP_THRESHOLD, 128 << 20);
// 	mallopt(M_TRIM_THRESHOLD, 512 << 20);
// 	mallopt(M_TOP_PAD, 64 << 20);
// 	return (uintptr_t)sbrk(0);
// }
//
// static void return_freed_memory(void) { malloc_trim(0); }
//
// static uintptr_t use_huge_pages(uintptr_t from) {
// 	const uintptr_t page = 2 << 20;
// 	uintptr_t end = (uintptr_t)sbrk(0), first = from & ~(page - 1);
// 	if (end >= from && end - from < page)
// 		return from;
// 	if (end > from)
// 		madvise((void *)first, end - first, MADV_HUGEPAGE);
// 	return end;
// }
// #else
// static uintptr_t keep_freed_memory(void) { return 0; }
// static void return_freed_memory(void) {}
// static uintptr_t use_huge_pages(uintptr_t from) { return from; }
// #endif
import "C"

import "time"

// heap is the C library's heap, in which XLA keeps its buffers.
type heap struct {
	end     C.uintptr_t
	trimmed time.Time // when freed memory was returned to the system last
}

// trimEvery is how long freed memory between buffers stays. Threads free buffers of many sizes, and what is free between others that
// are in use is not returned by itself: without this a cut on 32 windows holds 8 GB at its end, of which it uses 3.
const trimEvery = 5 * time.Second

// keepFreedMemory makes the C library keep up to half a gigabyte of what XLA frees. By default each buffer of a graph, some
// megabytes large, is a mapping of its own: the kernel unmaps it when it is freed and clears its pages again for the next run.
// Buffers of 128 MiB and more, such as the weights of large models, still are mappings.
//
// This changes the whole process, so it is called where the XLA plugin for the CPU is opened and nowhere else; see ADR 12.
func keepFreedMemory() *heap { return &heap{end: C.keep_freed_memory()} }

// grown asks for huge pages for what the heap has grown by since the last call. It grows by so much at a time that little of
// that has been written by then. Every trimEvery it returns what is free to the system.
func (h *heap) grown() {
	h.end = C.use_huge_pages(h.end)
	if now := time.Now(); now.Sub(h.trimmed) >= trimEvery {
		C.return_freed_memory()
		h.trimmed = now
	}
}
