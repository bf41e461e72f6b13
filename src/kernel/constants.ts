/** Numbers of the kernel's BPF interface (linux/bpf.h) that this project uses. */
export const MAP_TYPE = {
  HASH: 1,
  ARRAY: 2,
  PERCPU_HASH: 5,
  PERCPU_ARRAY: 6,
  LRU_HASH: 9,
  LRU_PERCPU_HASH: 10,
  ARRAY_OF_MAPS: 12,
  HASH_OF_MAPS: 13,
  SOCKMAP: 15,
  SOCKHASH: 18,
  PERCPU_CGROUP_STORAGE: 21,
  RINGBUF: 27,
} as const;
export const MAP_FLAG = { MMAPABLE: 1 << 10, INNER_MAP: 1 << 12 } as const;
/** Flags of a map update. */
export const UPDATE = { ANY: 0, NOEXIST: 1, EXIST: 2 } as const;

export const PROGRAM_TYPE = { SCHED_CLS: 3, SOCK_OPS: 13, SK_SKB: 14, SK_MSG: 16, SYSCALL: 31 } as const;

export const ATTACH = {
  CGROUP_SOCK_OPS: 3,
  SK_SKB_STREAM_PARSER: 4,
  SK_SKB_STREAM_VERDICT: 5,
  SK_MSG_VERDICT: 7,
  CGROUP_INET4_CONNECT: 10,
  CGROUP_INET6_CONNECT: 11,
  CGROUP_UDP4_SENDMSG: 14,
  CGROUP_UDP6_SENDMSG: 15,
  CGROUP_INET4_GETPEERNAME: 29,
  CGROUP_INET6_GETPEERNAME: 30,
  SK_LOOKUP: 36,
  SK_SKB_VERDICT: 38,
} as const;
export type AttachType = (typeof ATTACH)[keyof typeof ATTACH];
