/** What goes wrong between this process and the kernel, as one sentence and machine-readable details. */
import koffi from 'koffi';

const NAMES = new Map<number, string>();
// EAGAIN and EWOULDBLOCK (and a few more) share a number: the first name, which is the usual one, stays.
for (const [name, value] of Object.entries(koffi.os.errno)) {
  if (name !== 'EWOULDBLOCK' && name !== 'EOPNOTSUPP' && !NAMES.has(value)) NAMES.set(value, name);
}
// The kernel's own ENOTSUPP escapes to user space from some BPF paths, and libc has no name for it.
NAMES.set(524, 'ENOTSUPP');
// libbpf's own numbers (enum libbpf_errno); its text, which follows in the message, says which of them it was.
for (let errno = 4000; errno < 4014; errno++) NAMES.set(errno, 'not a usable BPF object');

/** Name of an errno value (positive or negated), e.g. `EPERM`; `errno 999` when there is none. */
export function errnoName(errno: number): string {
  return NAMES.get(Math.abs(errno)) ?? `errno ${Math.abs(errno)}`;
}

/** Number of an errno name; 0 when unknown. */
export function errnoNumber(name: string): number {
  return koffi.os.errno[name] ?? 0;
}

/** A call into the kernel, libbpf or libc that failed. `message` is one sentence; `log` is what libbpf or the verifier said. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  /** positive errno, 0 if the failure has none */
  readonly errno: number;
  /** its name, e.g. `EPERM` */
  readonly code: string;
  /** what was attempted, e.g. `load dist/sidestep.bpf.o` */
  readonly action: string;
  /** everything libbpf printed while it tried (may be long: the verifier's log) */
  readonly log: string;

  constructor(action: string, errno: number, log = '') {
    const code = errno === 0 ? '' : errnoName(errno);
    super(`cannot ${action}${code ? `: ${code}` : ''}${explain(Math.abs(errno), action, log)}`);
    this.errno = Math.abs(errno);
    this.code = code;
    this.action = action;
    this.log = log;
  }
}

/** The clause after the errno's name: what the user can do, or the line of the log that says why. */
function explain(errno: number, action: string, log: string): string {
  const code = errnoName(errno);
  if (code === 'EPERM' || code === 'EACCES') {
    // EACCES from a load is the verifier's "no"; both may also mean that the process lacks a capability.
    const verdict = verifierLine(log);
    if (code === 'EACCES' && verdict) return ` (the verifier says${programOf(log)}: ${verdict})`;
    return ' (this needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)';
  }
  if (code === 'ENOENT' && action.startsWith('open ')) return ' (no such file; build it with script/build-bpf)';
  if (code === 'EINVAL' || code === 'E2BIG' || code === 'ENOTSUPP' || code === 'ENOSPC') {
    const verdict = verifierLine(log);
    if (verdict) return ` (the verifier says${programOf(log)}: ${verdict})`;
  }
  if (code === 'ENOMEM') return ' (the kernel is out of memory, or RLIMIT_MEMLOCK is too low on an old kernel)';
  const last = lastLine(log);
  return last ? ` (${last})` : '';
}

const lastLine = (log: string): string => log.trim().split('\n').at(-1)?.trim() ?? '';

/** ` of NAME` when the log names the program that was refused. */
function programOf(log: string): string {
  const name = /prog '([^']+)': BPF program load failed/.exec(log)?.[1];
  return name ? ` of ${name}` : '';
}

/** The sentence of a verifier log that names the reason: the last line before the statistics. */
function verifierLine(log: string): string {
  const end = /^processed \d+ insns/m.exec(log);
  const begin = log.indexOf('-- BEGIN PROG LOAD LOG --');
  if (!end || begin < 0) return '';
  const lines = log.slice(begin, end.index).trim().split('\n');
  return lines.at(-1)?.trim() ?? '';
}
