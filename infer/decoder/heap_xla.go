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
// static uintptr_t use_huge_pages(uintptr_t from) { return from; }
// #endif
import "C"

// heap is the C library's heap, in which XLA keeps its buffers.
type heap struct{ end C.uintptr_t }

// keepFreedMemory makes the C library keep up to half a gigabyte of what XLA frees. By default each buffer of a graph, some
// megabytes large, is a mapping of its own: the kernel unmaps it when it is freed and clears its pages again for the next run.
// Buffers of 128 MiB and more, such as the weights of large models, still are mappings.
//
// This changes the whole process, so it is called where the XLA plugin for the CPU is opened and nowhere else; see ADR 12.
func keepFreedMemory() *heap { return &heap{C.keep_freed_memory()} }

// grown asks for huge pages for what the heap has grown by since the last call. It grows by so much at a time that little of
// that has been written by then.
func (h *heap) grown() { h.end = C.use_huge_pages(h.end) }
