/* Faults at the border between a trainer and the system, for benchmarks/resilience.py; loaded by LD_PRELOAD.

   Counts the calls that change files below two given folders and whose path has a given part, in every thread. At a
   given call of these it kills the process (before the call is made), or lets it and every later write below the folders
   fail with ENOSPC, as on a disk that stays full. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, LOG, KILL, FULL };
static atomic_int mode = OFF;
static atomic_long calls;
static long when;
static int log_file = -1;
static char places[2][PATH_MAX];
static char counted[PATH_MAX];

void faults_arm(int new_mode, long at, const char *first, const char *second, const char *part, int log) {
    mode = OFF;
    strncpy(places[0], first, PATH_MAX - 1);
    strncpy(places[1], second, PATH_MAX - 1);
    strncpy(counted, part, PATH_MAX - 1);
    when = at;
    log_file = log;
    calls = 0;
    mode = new_mode;
}

static int below(const char *path) {
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(places[i]);
        if (length && !strncmp(path, places[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static const char *of_file(int file, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlink, link, into, PATH_MAX - 1);
    into[length > 0 ? length : 0] = 0;
    return into;
}

static const char *of_name(int folder, const char *name, char *into) {
    if (name[0] == '/') return name;
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) <= 0) base[0] = 0;
    } else of_file(folder, base);
    if (snprintf(into, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) into[0] = 0;
    return into;
}

/* 1 where the call has to fail for want of space. */
static int reached(const char *call, const char *path, int is_write) {
    if (mode == OFF || !below(path)) return 0;
    int counts = strstr(path, counted) != NULL;
    long number = counts ? ++calls : calls;
    if (!counts) return mode == FULL && is_write && number >= when;
    if (mode == LOG) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%s %s\n", call, path);
        syscall(SYS_write, log_file, line, (size_t)length);
    }
    if (mode == KILL && number == when) {
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        for (;;) pause();
    }
    return mode == FULL && is_write && number >= when;
}


#define ON_FILE(type, name, is_write, file, parameters, arguments) \
    type name parameters { \
        static type (*real) parameters; \
        int before = errno; \
        char into[PATH_MAX]; \
        if (!real) real = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
        if (mode != OFF && reached(#name, of_file(file, into), is_write)) { errno = ENOSPC; return -1; } \
        errno = before; \
        return real arguments; \
    }

#define ON_NAME(name, folder, path, parameters, arguments) \
    int name parameters { \
        static int (*real) parameters; \
        int before = errno; \
        char into[PATH_MAX]; \
        if (!real) real = (int (*) parameters)dlsym(RTLD_NEXT, #name); \
        if (mode != OFF) reached(#name, of_name(folder, path, into), 0); \
        errno = before; \
        return real arguments; \
    }

ON_FILE(ssize_t, write, 1, file, (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, writev, 1, file, (int file, const struct iovec *parts, int num), (file, parts, num))
ON_FILE(ssize_t, pwrite, 1, file, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
ON_FILE(ssize_t, pwrite64, 1, file, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE(ssize_t, pwritev, 1, file, (int file, const struct iovec *parts, int num, off_t at), (file, parts, num, at))
ON_FILE(ssize_t, pwritev64, 1, file, (int file, const struct iovec *parts, int num, off64_t at), (file, parts, num, at))
ON_FILE(ssize_t, sendfile, 1, file, (int file, int from, off_t *at, size_t size), (file, from, at, size))
ON_FILE(ssize_t, sendfile64, 1, file, (int file, int from, off64_t *at, size_t size), (file, from, at, size))
ON_FILE(ssize_t, copy_file_range, 1, file, (int from, off64_t *a, int file, off64_t *b, size_t size, unsigned f), (from, a, file, b, size, f))
ON_FILE(int, ftruncate, 0, file, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, 0, file, (int file, off64_t size), (file, size))
ON_FILE(int, fsync, 0, file, (int file), (file))
ON_FILE(int, fdatasync, 0, file, (int file), (file))

ON_NAME(rename, AT_FDCWD, new, (const char *old, const char *new), (old, new))
ON_NAME(renameat, place, new, (int from, const char *old, int place, const char *new), (from, old, place, new))
ON_NAME(unlink, AT_FDCWD, path, (const char *path), (path))
ON_NAME(unlinkat, place, path, (int place, const char *path, int flags), (place, path, flags))
ON_NAME(rmdir, AT_FDCWD, path, (const char *path), (path))
ON_NAME(mkdir, AT_FDCWD, path, (const char *path, mode_t rights), (path, rights))
ON_NAME(mkdirat, place, path, (int place, const char *path, mode_t rights), (place, path, rights))
ON_NAME(link, AT_FDCWD, new, (const char *old, const char *new), (old, new))
ON_NAME(symlink, AT_FDCWD, new, (const char *old, const char *new), (old, new))

static mode_t rights_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

#define OPENS(name, place, parameters, plain) \
    int name parameters { \
        static int (*real) parameters; \
        int before = errno; \
        char into[PATH_MAX]; \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = rights_of(flags, rest); \
        va_end(rest); \
        if (!real) real = (int (*) parameters)dlsym(RTLD_NEXT, #name); \
        if (mode != OFF && flags & (O_CREAT | O_TRUNC)) reached(#name, of_name(place, path, into), 0); \
        errno = before; \
        return plain; \
    }

OPENS(open, AT_FDCWD, (const char *path, int flags, ...), real(path, flags, rights))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), real(path, flags, rights))
OPENS(openat, folder, (int folder, const char *path, int flags, ...), real(folder, path, flags, rights))
OPENS(openat64, folder, (int folder, const char *path, int flags, ...), real(folder, path, flags, rights))

#define FOPENS(name) \
    FILE *name(const char *path, const char *how) { \
        static FILE *(*real)(const char *, const char *); \
        int before = errno; \
        char into[PATH_MAX]; \
        if (!real) real = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, #name); \
        if (mode != OFF && how[0] != 'r') reached(#name, of_name(AT_FDCWD, path, into), 0); \
        errno = before; \
        return real(path, how); \
    }

FOPENS(fopen)
FOPENS(fopen64)
