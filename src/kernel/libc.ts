/** The libc functions that Node does not offer, declared once. Loaded at first use, so that `--help` needs nothing. */
import koffi from 'koffi';
import { KernelError } from './errors.js';

// biome-ignore lint/suspicious/noExplicitAny: koffi's functions are untyped; the wrappers in this folder are the types.
type Native = (...args: any[]) => any;

/** Makes a getter that computes its value once. */
export function lazy<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** Loads a shared library. @throws KernelError with a sentence that names the library and the Debian package. */
export function loadLibrary(name: string, debianPackage: string): ReturnType<typeof koffi.load> {
  try {
    return koffi.load(name);
  } catch {
    throw new KernelError(`load the library ${name} (install the package ${debianPackage}; script/bootstrap does)`, 0);
  }
}

export const libc = lazy(() => {
  const lib = loadLibrary('libc.so.6', 'libc6');
  const f = (definition: string): Native => lib.func(definition) as Native;
  return {
    mmap: f('void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)'),
    setsockopt: f('int setsockopt(int fd, int level, int name, const void *value, uint32_t len)'),
    getsockopt: f('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *len)'),
    recv: f('long recv(int fd, _Out_ uint8_t *buffer, size_t length, int flags)'),
    ioctl: f('int ioctl(int fd, unsigned long request, _Inout_ int *arg)'),
    poll: f('int poll(_Inout_ uint8_t *fds, unsigned long n, int timeout)'),
    fcntl: f('int fcntl(int fd, int command, int argument)'),
    syscall: f('long syscall(long number, long a, long b, long c)'),
    unshare: f('int unshare(int flags)'),
    setns: f('int setns(int fd, int type)'),
    socket: f('int socket(int domain, int type, int protocol)'),
    bind: f('int bind(int fd, const uint8_t *address, uint32_t length)'),
    connect: f('int connect(int fd, const uint8_t *address, uint32_t length)'),
    getsockname: f('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)'),
    mount: f(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)',
    ),
    signal: f('void *signal(int number, void *handler)'),
    execvp: f('int execvp(const char *file, const char **argv)'),
    posixSpawn: f(
      'int posix_spawn(_Out_ int *pid, const char *path, const void *actions, const void *attr, const char **argv, const char **env)',
    ),
    spawnActionsInit: f('int posix_spawn_file_actions_init(uint8_t *actions)'),
    spawnActionsOpen: f(
      'int posix_spawn_file_actions_addopen(uint8_t *actions, int fd, const char *path, int flags, uint32_t mode)',
    ),
    spawnActionsDup: f('int posix_spawn_file_actions_adddup2(uint8_t *actions, int fd, int to)'),
    spawnActionsDestroy: f('int posix_spawn_file_actions_destroy(uint8_t *actions)'),
    spawnAttrInit: f('int posix_spawnattr_init(uint8_t *attr)'),
    spawnAttrFlags: f('int posix_spawnattr_setflags(uint8_t *attr, short flags)'),
    spawnAttrMask: f('int posix_spawnattr_setsigmask(uint8_t *attr, const uint8_t *set)'),
    spawnAttrDefault: f('int posix_spawnattr_setsigdefault(uint8_t *attr, const uint8_t *set)'),
    waitpid: f('int waitpid(int pid, _Out_ int *status, int options)'),
    vsnprintf: f('int vsnprintf(_Out_ uint8_t *out, size_t size, void *format, void *args)'),
  };
});
