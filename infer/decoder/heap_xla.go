//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla

package decoder

// #include <stdint.h>
// #include <stdlib.h>
// #ifdef __GLIBC__
// #include <malloc.h>
// #include <sys/mman.h>
// #include <unistd.h>
//
// // Before there are threads: each stays with the arena that it began with.
// __attribute__((constructor)) static void one_arena(void) { mallopt(M_ARENA_MAX, 1); }
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

// heap is what is known of the C library's heap, where XLA keeps its buffers.
type heap struct{ end C.uintptr_t }

// keepFreedMemory has the C library keep up to half a gigabyte of what XLA frees. By default each buffer of a graph, some
// megabytes large, is a mapping of its own: the kernel takes it away when it is freed and clears its pages anew for the next
// run. Larger ones, such as the weights of large models, still are. There is one arena, since those of threads hold no
// blocks as large.
func keepFreedMemory() *heap { return &heap{C.keep_freed_memory()} }

// grown asks for huge pages where the heap has grown since it was last asked for. Of what it grows by at a time, little has
// been written by then.
func (h *heap) grown() { h.end = C.use_huge_pages(h.end) }
