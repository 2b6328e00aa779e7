/* Counts what a process does to files below a folder, and at one operation kills it, fails it, or writes a trace.

Preloaded (LD_PRELOAD). A process that has FAULTS_STATE, the path of a file of `struct state`, takes part; the file is
shared by a command and all that it starts. watched.py has the same layout and the same numbers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, FSYNC, RENAME, MKDIR, UNLINK, RMDIR, LINK, TRUNCATE };
enum { NOTHING, SIGNAL_BEFORE, SIGNAL_AFTER, SIGNAL_HALFWAY, ERROR };

struct state {
  uint64_t count;   /* of operations so far */
  uint64_t at;      /* the number of the one that the fault is at, from 1; 0: none is */
  uint64_t fired;   /* how many faults there were */
  uint32_t kinds;   /* bits of the kinds that are counted */
  uint32_t action;  /* what happens */
  uint32_t number;  /* of the signal, or errno */
  uint32_t lasting; /* an error: all later ones fail, too */
  char folder[PATH_MAX];
  char trace[PATH_MAX]; /* file that operations are appended to; empty: none */
};

struct record {
  uint32_t kind, flags;
  uint64_t number, inode;
  int64_t offset;
  uint32_t path_bytes, rest_bytes; /* what follows: a path, and another path or what was written */
};

static struct state *shared;
static int trace_file = -1;
static __thread uint64_t numbered; /* of the operation that a thread is at */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name, type) \
  static type real_##name; \
  if (!real_##name) real_##name = (type)dlsym(RTLD_NEXT, #name)

static struct state *state(void) {
  if (shared) return shared;
  const char *path = getenv("FAULTS_STATE");
  if (!path || !*path) return NULL;
  int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (file < 0) return NULL;
  void *found = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  syscall(SYS_close, file);
  if (found == MAP_FAILED) return NULL;
  shared = found;
  if (*shared->trace) {
    trace_file = syscall(SYS_openat, AT_FDCWD, shared->trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  }
  return shared;
}

static int inside(const char *path) {
  size_t length = strlen(shared->folder);
  return !strncmp(path, shared->folder, length) && (path[length] == '/' || !path[length]);
}

/* Whether the file of a descriptor lies in the folder; its path. */
static int file_inside(int file, char *path) {
  if (file < 0 || !state()) return 0;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return inside(path);
}

static int path_inside(int folder, const char *name, char *path) {
  if (!name || !state()) return 0;
  if (*name == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    char from[PATH_MAX];
    ssize_t length;
    if (folder == AT_FDCWD) {
      if (!getcwd(from, sizeof from)) return 0;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
      if ((length = readlink(link, from, sizeof from - 1)) < 0) return 0;
      from[length] = 0;
    }
    if (snprintf(path, PATH_MAX, "%s/%s", from, name) >= PATH_MAX) return 0;
  }
  return inside(path);
}

static void send_signal(void) {
  __sync_add_and_fetch(&shared->fired, 1);
  syscall(SYS_kill, getpid(), shared->number);
}

/* Counts an operation; returns what is to happen to it. */
static int fault(int kind) {
  if (!(shared->kinds >> kind & 1)) return NOTHING;
  uint64_t number = numbered = __sync_add_and_fetch(&shared->count, 1);
  if (!shared->at) return NOTHING;
  if (shared->action == ERROR) {
    if (number < shared->at || (number > shared->at && !shared->lasting)) return NOTHING;
    __sync_add_and_fetch(&shared->fired, 1);
    return ERROR;
  }
  return number == shared->at ? (int)shared->action : NOTHING;
}

static void record(int kind, int flags, uint64_t inode, int64_t offset, const char *path, const void *rest, size_t n) {
  if (trace_file < 0) return;
  struct record head = {kind, flags, numbered, inode, offset, strlen(path), n};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path_bytes}, {(void *)rest, n}};
  syscall(SYS_writev, trace_file, parts, 3);
}

/* Does an operation that returns a number below 0 where it fails, and what is to happen at it. */
#define DO(kind, operation, told) \
  do { \
    int what = fault(kind); \
    if (what == ERROR) { errno = shared->number; return -1; } \
    if (what == SIGNAL_BEFORE || what == SIGNAL_HALFWAY) send_signal(); \
    int traced = trace_file >= 0; \
    if (traced) pthread_mutex_lock(&one_at_a_time); \
    long result = operation; \
    int error = errno; \
    if (result >= 0) { told; } \
    if (traced) pthread_mutex_unlock(&one_at_a_time); \
    if (what == SIGNAL_AFTER) send_signal(); \
    errno = error; \
    return result; \
  } while (0)

static uint64_t inode_of(int file) {
  struct stat found;
  return fstat(file, &found) ? 0 : found.st_ino;
}

static int opened(int folder, const char *name, int flags, mode_t mode, const char *path) {
  DO(OPEN, syscall(SYS_openat, folder, name, flags, mode),
     record(OPEN, flags, inode_of(result), 0, path, "", 0));
}

static int open_any(int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int writes = (flags & O_ACCMODE) != O_RDONLY && (flags & O_TMPFILE) != O_TMPFILE;
  if (writes && path_inside(folder, name, path)) return opened(folder, name, flags, mode, path);
  return syscall(SYS_openat, folder, name, flags, mode);
}

#define MODE \
  mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list more; \
    va_start(more, flags); \
    mode = va_arg(more, mode_t); \
    va_end(more); \
  }

int open(const char *name, int flags, ...) { MODE return open_any(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return open_any(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE return open_any(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE return open_any(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

static ssize_t written(int file, const void *data, size_t n, const char *path) {
  int what = fault(WRITE);
  if (what == ERROR) { errno = shared->number; return -1; }
  if (what == SIGNAL_BEFORE) send_signal();
  if (what == SIGNAL_HALFWAY) {
    ssize_t half = syscall(SYS_write, file, data, n / 2);
    send_signal();
    if (half > 0) return half;
  }
  int traced = trace_file >= 0;
  if (traced) pthread_mutex_lock(&one_at_a_time);
  ssize_t result = syscall(SYS_write, file, data, n);
  int error = errno;
  if (result > 0) {
    record(WRITE, 0, inode_of(file), syscall(SYS_lseek, file, 0, SEEK_CUR) - result, path, data, result);
  }
  if (traced) pthread_mutex_unlock(&one_at_a_time);
  if (what == SIGNAL_AFTER) send_signal();
  errno = error;
  return result;
}

ssize_t write(int file, const void *data, size_t n) {
  char path[PATH_MAX];
  return file_inside(file, path) ? written(file, data, n, path) : syscall(SYS_write, file, data, n);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  char path[PATH_MAX];
  if (!file_inside(file, path)) return syscall(SYS_writev, file, parts, count);
  size_t size = 0;
  for (int i = 0; i < count; i++) size += parts[i].iov_len;
  char *all = malloc(size + 1), *end = all;
  for (int i = 0; i < count; i++) end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
  ssize_t result = written(file, all, size, path);
  free(all);
  return result;
}

static ssize_t written_at(int file, const void *data, size_t n, off_t offset, const char *path) {
  DO(WRITE, syscall(SYS_pwrite64, file, data, n, offset),
     record(WRITE, 0, inode_of(file), offset, path, data, result));
}

ssize_t pwrite(int file, const void *data, size_t n, off_t offset) {
  char path[PATH_MAX];
  if (file_inside(file, path)) return written_at(file, data, n, offset, path);
  return syscall(SYS_pwrite64, file, data, n, offset);
}

ssize_t pwrite64(int file, const void *data, size_t n, off_t offset) { return pwrite(file, data, n, offset); }

static int synced(int file, long call, const char *path) {
  DO(FSYNC, syscall(call, file), record(FSYNC, 0, inode_of(file), 0, path, "", 0));
}

int fsync(int file) {
  char path[PATH_MAX];
  return file_inside(file, path) ? synced(file, SYS_fsync, path) : syscall(SYS_fsync, file);
}

int fdatasync(int file) {
  char path[PATH_MAX];
  return file_inside(file, path) ? synced(file, SYS_fdatasync, path) : syscall(SYS_fdatasync, file);
}

static int cut(int file, off_t length, const char *path) {
  DO(TRUNCATE, syscall(SYS_ftruncate, file, length), record(TRUNCATE, 0, inode_of(file), length, path, "", 0));
}

int ftruncate(int file, off_t length) {
  char path[PATH_MAX];
  return file_inside(file, path) ? cut(file, length, path) : syscall(SYS_ftruncate, file, length);
}

int ftruncate64(int file, off_t length) { return ftruncate(file, length); }

static int renamed(int from, const char *name, int to, const char *other, const char *path, const char *after) {
  DO(RENAME, syscall(SYS_renameat, from, name, to, other), record(RENAME, 0, 0, 0, path, after, strlen(after)));
}

int renameat(int from, const char *name, int to, const char *other) {
  char path[PATH_MAX] = "", after[PATH_MAX] = "";
  int before = path_inside(from, name, path);
  if (path_inside(to, other, after) || before) return renamed(from, name, to, other, path, after);
  return syscall(SYS_renameat, from, name, to, other);
}

int rename(const char *name, const char *other) { return renameat(AT_FDCWD, name, AT_FDCWD, other); }

static int made(int folder, const char *name, mode_t mode, const char *path) {
  DO(MKDIR, syscall(SYS_mkdirat, folder, name, mode), record(MKDIR, 0, 0, 0, path, "", 0));
}

int mkdirat(int folder, const char *name, mode_t mode) {
  char path[PATH_MAX];
  return path_inside(folder, name, path) ? made(folder, name, mode, path)
                                         : syscall(SYS_mkdirat, folder, name, mode);
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

static int removed(int folder, const char *name, int flags, const char *path) {
  int kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
  DO(kind, syscall(SYS_unlinkat, folder, name, flags), record(kind, 0, 0, 0, path, "", 0));
}

int unlinkat(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  return path_inside(folder, name, path) ? removed(folder, name, flags, path)
                                         : syscall(SYS_unlinkat, folder, name, flags);
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int remove(const char *name) {
  int result = unlink(name);
  return result && errno == EISDIR ? rmdir(name) : result;
}

static int linked(int from, const char *name, int to, const char *other, int flags, const char *path) {
  DO(LINK, syscall(SYS_linkat, from, name, to, other, flags), record(LINK, 0, 0, 0, path, name, strlen(name)));
}

int linkat(int from, const char *name, int to, const char *other, int flags) {
  char path[PATH_MAX];
  return path_inside(to, other, path) ? linked(from, name, to, other, flags, path)
                                      : syscall(SYS_linkat, from, name, to, other, flags);
}

int link(const char *name, const char *other) { return linkat(AT_FDCWD, name, AT_FDCWD, other, 0); }

/* Streams: what the C library writes itself does not come by here, so a stream that writes in the folder is one of
   ours. TensorFlow's files are such. */
static ssize_t stream_read(void *cookie, char *data, size_t n) { return read((int)(intptr_t)cookie, data, n); }

static ssize_t stream_write(void *cookie, const char *data, size_t n) {
  size_t done = 0;
  while (done < n) {
    ssize_t part = write((int)(intptr_t)cookie, data + done, n - done);
    if (part < 0) break;
    done += part;
  }
  return done;
}

static int stream_seek(void *cookie, off64_t *offset, int whence) {
  off64_t found = lseek((int)(intptr_t)cookie, *offset, whence);
  if (found < 0) return -1;
  *offset = found;
  return 0;
}

static int stream_close(void *cookie) { return close((int)(intptr_t)cookie); }

FILE *fopen(const char *name, const char *mode) {
  typedef FILE *(*opens)(const char *, const char *);
  REAL(fopen, opens);
  char path[PATH_MAX];
  int plus = strchr(mode, '+') != NULL;
  if ((*mode == 'r' && !plus) || !path_inside(AT_FDCWD, name, path)) return real_fopen(name, mode);
  int flags = plus ? O_RDWR : O_WRONLY;
  if (*mode == 'w') flags |= O_CREAT | O_TRUNC;
  if (*mode == 'a') flags |= O_CREAT | O_APPEND;
  int file = opened(AT_FDCWD, name, flags | O_CLOEXEC, 0666, path);
  if (file < 0) return NULL;
  cookie_io_functions_t with = {stream_read, stream_write, stream_seek, stream_close};
  return fopencookie((void *)(intptr_t)file, mode, with);
}

FILE *fopen64(const char *name, const char *mode) { return fopen(name, mode); }
