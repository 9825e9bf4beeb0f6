/* Ends, or fails, the k-th call by which a tree of processes changes what is below a folder.
 *
 * Preloaded (LD_PRELOAD) into a command and all that it starts. Each call of libc that changes a file or a
 * folder below SHIM_ROOT is counted, in one counter that the processes share (SHIM_COUNTER, a file of 24 bytes
 * that is mapped). SHIM_AT names the call at which SHIM_ACTION happens:
 *
 *   kill    SIGKILL to the process group, before the call
 *   torn    the same, after half of what was to be written (another call: before it)
 *   enospc  the call fails with "No space left on device", if it is one that takes space
 *   full    that one and all that come after it
 *   eio     the call fails with "Input/output error"
 *   dead    that one and all that come after it
 *
 * With SHIM_FROM only calls after the first one that bears this text are counted, and with SHIM_UNTIL none after
 * the one that bears that: in its path, or in what it writes to a log. SHIM_TRACE is a file to which each counted
 * call is written, with what is written to a log. Without SHIM_AT calls are only counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct shared {
    long count;   /* calls so far */
    long struck;  /* the call at which the action happened, 0 before */
    long within;  /* 0 before SHIM_FROM, 1 after it, 2 after SHIM_UNTIL */
};

enum action { COUNT, KILL, TORN, ENOSPC_ONCE, ENOSPC_ON, EIO_ONCE, EIO_ON };

static struct shared *shared;
static const char *root, *from, *until;
static size_t root_length;
static long at;
static enum action action = COUNT;
static int trace = -1;

static const char *said(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

__attribute__((constructor)) static void begin(void) {
    const char *counter = said("SHIM_COUNTER"), *chosen = said("SHIM_ACTION"), *number = said("SHIM_AT");
    const char *names[] = {"count", "kill", "torn", "enospc", "full", "eio", "dead"};
    root = said("SHIM_ROOT");
    if (!root || !counter) return;
    root_length = strlen(root);
    int descriptor = syscall(SYS_openat, AT_FDCWD, counter, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (shared == MAP_FAILED) { shared = NULL; return; }
    from = said("SHIM_FROM");
    until = said("SHIM_UNTIL");
    at = number ? atol(number) : 0;
    for (int i = 0; chosen && i < 7; i++) if (!strcmp(chosen, names[i])) action = i;
    if (said("SHIM_TRACE"))
        trace = syscall(SYS_openat, AT_FDCWD, said("SHIM_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(long number, const char *call, const char *path, const char *text, size_t length) {
    char line[PATH_MAX + 512];
    int used = snprintf(line, sizeof line - 402, "%ld\t%d\t%s\t%s\t", number, (int)getpid(), call, path);
    if (used < 0) return;
    if ((size_t)used > sizeof line - 402) used = sizeof line - 402;
    for (size_t i = 0; text && i < length && i < 400; i++)
        line[used++] = text[i] == '\n' || text[i] == '\t' ? ' ' : text[i];
    line[used++] = '\n';
    syscall(SYS_write, trace, line, used);
}

static int bears(const char *path, const char *text, size_t length, const char *sought) {
    return strstr(path, sought) != NULL || (text && memmem(text, length, sought, strlen(sought)) != NULL);
}

/* What is to happen at this call: 0 nothing, -1 kill after half of it, else the errno that it fails with. */
static int strike(const char *call, int takes_space, const char *path, const void *bytes, size_t length) {
    if (!shared || strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/')) return 0;
    size_t size = strlen(path);
    const char *text = bytes && size > 4 && !strcmp(path + size - 4, ".log") ? bytes : NULL;
    if (from && !shared->within && bears(path, text, length, from)) shared->within = 1;
    if (from && !shared->within) return 0;
    if (shared->within == 2) return 0;
    if (until && bears(path, text, length, until)) { shared->within = 2; return 0; }
    if ((action == ENOSPC_ONCE || action == ENOSPC_ON) && !takes_space) return 0;
    long number = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
    if (trace >= 0) note(number, call, path, text, length);
    if (!at || number < at || (number > at && action != ENOSPC_ON && action != EIO_ON)) return 0;
    if (number == at) {
        shared->struck = number;
        if (trace >= 0) note(number, "STRUCK", path, call, strlen(call));
    }
    switch (action) {
    case TORN: if (bytes && length > 1) return -1; /* fall through */
    case KILL: kill(0, SIGKILL); for (;;) pause();
    case ENOSPC_ONCE: case ENOSPC_ON: return ENOSPC;
    case EIO_ONCE: case EIO_ON: return EIO;
    default: return 0;
    }
}

static void die(void) { kill(0, SIGKILL); for (;;) pause(); }

static const char *path_of(int descriptor, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

static const char *path_at(int folder, const char *path, char *buffer) {
    char rest[PATH_MAX];
    if (path[0] == '/') return path;
    snprintf(rest, sizeof rest, "%s", path);
    if (folder == AT_FDCWD) { if (!getcwd(buffer, PATH_MAX)) return path; }
    else path_of(folder, buffer);
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", rest);
    return buffer;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(found) do { errno = (found); return -1; } while (0)

#define WRITES(name, ARGUMENTS, CALL, HALF)                                   \
    ssize_t name ARGUMENTS {                                                  \
        REAL(name);                                                           \
        char buffer[PATH_MAX + 1];                                            \
        int kept = errno;                                                     \
        int found = shared && fd > 2 ? strike(#name, 1, path_of(fd, buffer), data, size) : 0; \
        errno = kept;                                                         \
        if (found > 0) FAIL(found);                                           \
        if (found < 0) { real HALF; die(); }                                  \
        return real CALL;                                                     \
    }

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITES(pwrite, (int fd, const void *data, size_t size, off_t place), (fd, data, size, place), (fd, data, size / 2, place))
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t place), (fd, data, size, place), (fd, data, size / 2, place))

#define BY_DESCRIPTOR(name, space, ARGUMENTS, CALL)                           \
    int name ARGUMENTS {                                                      \
        REAL(name);                                                           \
        char buffer[PATH_MAX + 1];                                            \
        int found = shared ? strike(#name, space, path_of(fd, buffer), NULL, 0) : 0; \
        if (found > 0) FAIL(found);                                           \
        return real CALL;                                                     \
    }

BY_DESCRIPTOR(fsync, 0, (int fd), (fd))
BY_DESCRIPTOR(fdatasync, 0, (int fd), (fd))
BY_DESCRIPTOR(ftruncate, 0, (int fd, off_t size), (fd, size))
BY_DESCRIPTOR(ftruncate64, 0, (int fd, off64_t size), (fd, size))

ssize_t writev(int fd, const struct iovec *vector, int count) {
    REAL(writev);
    char buffer[PATH_MAX + 1];
    int found = shared && fd > 2 ? strike("writev", 1, path_of(fd, buffer), NULL, 0) : 0;
    if (found > 0) FAIL(found);
    return real(fd, vector, count);
}

ssize_t copy_file_range(int in, off64_t *from_place, int fd, off64_t *place, size_t size, unsigned flags) {
    REAL(copy_file_range);
    char buffer[PATH_MAX + 1];
    int found = shared ? strike("copy_file_range", 1, path_of(fd, buffer), "", size) : 0;
    if (found > 0) FAIL(found);
    if (found < 0) {
        struct stat whole;
        size_t all = !fstat(in, &whole) && (size_t)whole.st_size < size ? (size_t)whole.st_size : size;
        real(in, from_place, fd, place, all / 2, flags);
        die();
    }
    return real(in, from_place, fd, place, size, flags);
}

/* To make what is there already changes nothing. */
static int is_change(int makes, const char *path) {
    struct stat there;
    return !makes || stat(path, &there) != 0;
}

#define BY_PATH(name, space, ARGUMENTS, CALL)                                 \
    int name ARGUMENTS {                                                      \
        REAL(name);                                                           \
        char buffer[PATH_MAX + 1];                                            \
        const char *whole = shared ? path_at(AT_FDCWD, path, buffer) : path;  \
        int found = shared && is_change(space, whole) ? strike(#name, space, whole, NULL, 0) : 0; \
        if (found > 0) FAIL(found);                                           \
        return real CALL;                                                     \
    }

BY_PATH(truncate, 0, (const char *path, off_t size), (path, size))
BY_PATH(unlink, 0, (const char *path), (path))
BY_PATH(rmdir, 0, (const char *path), (path))
BY_PATH(mkdir, 1, (const char *path, mode_t mode), (path, mode))
BY_PATH(rename, 0, (const char *before, const char *path), (before, path))
BY_PATH(link, 1, (const char *before, const char *path), (before, path))

#define BY_PLACE(name, space, ARGUMENTS, CALL)                                \
    int name ARGUMENTS {                                                      \
        REAL(name);                                                           \
        char buffer[2 * PATH_MAX + 2];                                        \
        const char *whole = shared ? path_at(folder, path, buffer) : path;    \
        int found = shared && is_change(space, whole) ? strike(#name, space, whole, NULL, 0) : 0; \
        if (found > 0) FAIL(found);                                           \
        return real CALL;                                                     \
    }

BY_PLACE(unlinkat, 0, (int folder, const char *path, int flags), (folder, path, flags))
BY_PLACE(mkdirat, 1, (int folder, const char *path, mode_t mode), (folder, path, mode))
BY_PLACE(renameat, 0, (int old, const char *before, int folder, const char *path), (old, before, folder, path))
BY_PLACE(renameat2, 0, (int old, const char *before, int folder, const char *path, unsigned flags),
         (old, before, folder, path, flags))

/* Opening changes something if it makes the file or empties it. */
#define OPENS(name, FOLDER, ARGUMENTS, CALL)                 \
    int name ARGUMENTS {                                                      \
        REAL(name);                                                           \
        mode_t mode = 0;                                                      \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                \
            va_list more;                                                     \
            va_start(more, flags);                                            \
            mode = va_arg(more, mode_t);                                      \
            va_end(more);                                                     \
        }                                                                     \
        char buffer[2 * PATH_MAX + 2];                                        \
        int found = 0;                                                        \
        if (shared && flags & (O_CREAT | O_TRUNC)) {                          \
            struct stat there;                                                \
            const char *whole = path_at(FOLDER, path, buffer);                \
            if (flags & O_TRUNC || stat(whole, &there)) found = strike(#name, 1, whole, NULL, 0); \
        }                                                                     \
        if (found > 0) FAIL(found);                                           \
        return real CALL;                                                     \
    }

OPENS(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPENS(openat64, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
