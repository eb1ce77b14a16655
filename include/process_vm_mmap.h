/* SPDX-License-Identifier: MIT */
/*
 * process_vm_mmap() - duplicate a range of one live process's memory into another, copy-on-write.
 *
 * Link with -lprocess_vm_mmap. The full description is process_vm_mmap(2), docs/process_vm_mmap.2.md in the project.
 */
#ifndef PROCESS_VM_MMAP_H
#define PROCESS_VM_MMAP_H

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exactly dst_addr; what was mapped there is replaced, as with mmap(MAP_FIXED). */
#define PVMMAP_FIXED           0x1UL
/* Exactly dst_addr; EEXIST if anything is mapped there. Wins over PVMMAP_FIXED. */
#define PVMMAP_FIXED_NOREPLACE 0x2UL
/* Hand over: the source range is unmapped as part of the call, before the target can touch the new mapping. */
#define PVMMAP_MOVE            0x100UL
/* Fill on touch only, no background fill. EINVAL together with PVMMAP_POPULATE. */
#define PVMMAP_LAZY            0x200UL
/* Return when every page is in place. EINVAL together with PVMMAP_LAZY. */
#define PVMMAP_POPULATE        0x400UL

/*
 * Maps a copy of [src_addr, src_addr + len) of the source process into the target process. Nothing is copied in the call: pages go
 * over when the target touches them and in the background. Every byte of the destination reads as the source had it at the time of
 * the call; later writes on either side are never seen by the other. Memory keeps its kind: private
 * anonymous memory stays private and anonymous, shared memory shared, a file's mapping that file's, each with the protection of the source.
 *
 * pid       > 0: from process pid into the caller ("pull").
 *           < 0: from the caller into process -pid ("push").
 *           The caller's own pid, either sign, duplicates memory within the caller.
 * src_addr  Address in the source. Need not be aligned: the range is rounded outward to whole pages.
 * len       Bytes, at least 1. The range may span several mappings; it must have no hole.
 * dst_addr  Address in the target. A hint without PVMMAP_FIXED or PVMMAP_FIXED_NOREPLACE, 0 for no wish; with either of them exactly
 *           this address, which must be page-aligned then.
 * flags     0 or PVMMAP_ flags combined by |.
 *
 * Returns the page-aligned address of the copy in the target; the byte that src_addr named is at that address plus
 * (src_addr % page size). On error returns -1 and sets errno; both processes are then as they were before the call.
 *
 * EINVAL      Unknown or contradictory flags; pid 0; len 0; the source or destination range wraps or passes the end of
 *             the address space; the source range includes page 0; dst_addr not page-aligned where it must be; source and destination
 *             overlap in one process; the process is a kernel thread.
 * ESRCH       No such process, or it is exiting.
 * EPERM       The caller may not ptrace-attach to the process (the rule of process_vm_readv(2)), or may not open what is mapped.
 * EBUSY       The process is being traced already, by a debugger for instance.
 * EFAULT      Part of the source range is not mapped, or is a special mapping (I/O memory, the vDSO, an AIO ring, secret memory), or is
 *             sealed (mseal(2)) and was to be moved.
 * EEXIST      PVMMAP_FIXED_NOREPLACE, and something is mapped in the destination range.
 * ENOMEM      The target's map count, RLIMIT_AS or RLIMIT_DATA, the overcommit rule, or its address space leaves no room.
 * EAGAIN      No process can be created for the fill (RLIMIT_NPROC, pids.max).
 * EOPNOTSUPP  The range is registered with a userfaultfd that is not ours.
 * ENOSYS      This kernel or architecture cannot do it; `pvmmap doctor` says what is missing.
 * EIO         Something failed that none of the above describes.
 *
 * Safe to call from many threads at once; not from a signal handler, and not in a child of fork() before it calls exec.
 */
long process_vm_mmap(pid_t pid, unsigned long src_addr, unsigned long len, unsigned long dst_addr, unsigned long flags);

#ifdef __cplusplus
}
#endif

#endif
