/* A wall clock that jumps: CLOCK_REALTIME is moved by the seconds in the file that FAULTS_CLOCK names. Loaded into
 * the program by LD_PRELOAD; all other clocks stay as they are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULTS_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *page = mmap(0, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        abort();
    moved = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && clock == CLOCK_REALTIME && moved)
        at->tv_sec += *moved;
    return result;
}
