/* A debugger of the smallest kind: attaches to a process, says so, and stays until the test has seen enough. */
#define _GNU_SOURCE
#include "stage.h"
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    pid_t pid = atoi(argv[2]);
    enter_stage(argv[1]);
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0) { say("err %d", errno); return 1; }
    say("ok seized");
    char line[64];
    while (hear(line, sizeof line)) { }
    return 0;
}
