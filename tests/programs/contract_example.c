/*
 * The example of process_vm_mmap(2) with its error handling: a page server receives memory over a socket and pushes it into
 * another process at an address that process has named. Exit status 0: the target read every byte and its own writes stayed its own.
 */
#include <errno.h>
#include <process_vm_mmap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 4096, PAGE_BYTES = 4096 };
static const size_t length = (size_t)PAGES * PAGE_BYTES;

static unsigned char byte_at(size_t i) { return (unsigned char)(i * 2654435761u >> 13); }

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void exactly(ssize_t got, size_t wanted, const char *what)
{
    if (got != (ssize_t)wanted) fail(what);
}

/* The restored process: names an address, waits, checks what is there. */
static int target(int server)
{
    void *place = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) fail("target mmap");
    exactly(write(server, &place, sizeof place), sizeof place, "write address");
    char go;
    exactly(read(server, &go, 1), 1, "wait for the push");
    unsigned char *pages = place;
    for (size_t i = 0; i < length; i++)
        if (pages[i] != byte_at(i)) { fprintf(stderr, "byte %zu is %d, not %d\n", i, pages[i], byte_at(i)); return 1; }
    memset(pages, 0x5a, length);
    return 0;
}

/* The other end of the migration. */
static int sender(int server)
{
    unsigned char page[PAGE_BYTES];
    for (size_t at = 0; at < length; at += sizeof page) {
        for (size_t i = 0; i < sizeof page; i++) page[i] = byte_at(at + i);
        exactly(write(server, page, sizeof page), sizeof page, "send");
    }
    return 0;
}

static pid_t start(int (*program)(int), int *socket)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) fail("socketpair");
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) { close(pair[0]); _exit(program(pair[1])); }
    close(pair[1]);
    *socket = pair[0];
    return pid;
}

static void joined(pid_t pid, const char *who)
{
    int status;
    if (waitpid(pid, &status, 0) != pid) fail(who);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) { fprintf(stderr, "%s: wait status %x\n", who, status); exit(1); }
}

int main(void)
{
    int target_socket, sender_socket;
    pid_t pid = start(target, &target_socket), sending = start(sender, &sender_socket);
    uintptr_t remote_addr;
    exactly(read(target_socket, &remote_addr, sizeof remote_addr), sizeof remote_addr, "read address");

    unsigned char *buf = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buf == MAP_FAILED) fail("mmap");
    exactly(recv(sender_socket, buf, length, MSG_WAITALL), length, "recv");
    long at = process_vm_mmap(-pid, (unsigned long)buf, length, remote_addr, PVMMAP_FIXED);
    if (at == -1) fail("process_vm_mmap");
    if ((uintptr_t)at != remote_addr) { fprintf(stderr, "placed at %lx, not %lx\n", at, remote_addr); return 1; }
    if (munmap(buf, length) < 0) fail("munmap");

    errno = 0;
    if (process_vm_mmap(-pid, remote_addr, 0, 0, 0) != -1 || errno != EINVAL) fail("length 0 must be EINVAL");
    exactly(write(target_socket, "g", 1), 1, "say go");
    joined(sending, "sender");
    joined(pid, "target");
    puts("ok");
    return 0;
}
