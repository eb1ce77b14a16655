/* What every program on the stage shares: it connects to the test's Unix socket, says who it is, and then talks in lines. */
#ifndef STAGE_H
#define STAGE_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int stage_fd = -1;

/* Says a line. A test that has gone away is no reason to go on. */
__attribute__((format(printf, 1, 2)))
static inline void say(const char *format, ...)
{
    static _Thread_local char line[1 << 17];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    for (int sent = 0; sent < length;) {
        ssize_t n = send(stage_fd, line + sent, length - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(3);
        sent += n;
    }
}

/* Reads a line without its newline; 0 at the end of the play. One byte at a time: nothing read ahead is lost by fork or exec. */
static inline int hear(char *line, size_t size)
{
    size_t length = 0;
    for (;;) {
        ssize_t n = recv(stage_fd, line + length, 1, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        if (line[length] == '\n') { line[length] = 0; return 1; }
        if (length < size - 1) length++;
    }
}

static inline void enter_stage(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    stage_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (stage_fd < 0 || connect(stage_fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror(path);
        _exit(2);
    }
    say("hello %d", getpid());
}

#endif
