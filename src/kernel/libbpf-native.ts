/** libbpf 1.x as koffi sees it, and capture of what it prints. */
import koffi from 'koffi';
import { lazy, libc, loadLibrary } from './libc.js';
import { Arena } from './memory.js';

// biome-ignore lint/suspicious/noExplicitAny: koffi's functions are untyped; the wrappers in this folder are the types.
type Native = (...args: any[]) => any;

let captured: string[] | undefined;
const scratch = lazy(() => new Uint8Array(1 << 20));

/**
 * libbpf's print callback. The va_list arrives as a pointer in the C ABI of x86-64 and arm64 (a struct passed by
 * reference), so vsnprintf can take it as it is.
 */
function onPrint(level: number, format: unknown, args: unknown): number {
  if (!captured || level > 1) return 0;
  const buffer = scratch();
  const length = libc().vsnprintf(buffer, buffer.length, format, args) as number;
  captured.push(Buffer.from(buffer.subarray(0, Math.min(Math.max(length, 0), buffer.length - 1))).toString('utf8'));
  return length;
}

export const libbpf = lazy(() => {
  const lib = loadLibrary('libbpf.so.1', 'libbpf1');
  const f = (definition: string): Native => lib.func(definition) as Native;
  const proto = koffi.proto('int sidestep_print(int level, void *format, void *args)');
  lib.func('libbpf_set_print', 'void *', [koffi.pointer(proto)])(koffi.register(onPrint, koffi.pointer(proto)));
  return {
    objectOpen: f('void *bpf_object__open_file(const char *path, void *opts)'),
    objectLoad: f('int bpf_object__load(void *object)'),
    objectClose: f('void bpf_object__close(void *object)'),
    objectBtf: f('void *bpf_object__btf(void *object)'),
    findMap: f('void *bpf_object__find_map_by_name(void *object, const char *name)'),
    findProgram: f('void *bpf_object__find_program_by_name(void *object, const char *name)'),
    nextMap: f('void *bpf_object__next_map(void *object, void *map)'),
    nextProgram: f('void *bpf_object__next_program(void *object, void *program)'),
    mapName: f('const char *bpf_map__name(void *map)'),
    mapFd: f('int bpf_map__fd(void *map)'),
    mapType: f('int bpf_map__type(void *map)'),
    mapKeySize: f('uint32_t bpf_map__key_size(void *map)'),
    mapValueSize: f('uint32_t bpf_map__value_size(void *map)'),
    mapMaxEntries: f('uint32_t bpf_map__max_entries(void *map)'),
    mapSetMaxEntries: f('int bpf_map__set_max_entries(void *map, uint32_t n)'),
    mapInitialValue: f('void *bpf_map__initial_value(void *map, _Out_ size_t *size)'),
    programAutoload: f('int bpf_program__set_autoload(void *program, bool autoload)'),
    programName: f('const char *bpf_program__name(void *program)'),
    programFd: f('int bpf_program__fd(void *program)'),
    programType: f('int bpf_program__type(void *program)'),
    programAttachType: f('int bpf_program__expected_attach_type(void *program)'),
    btfFindByNameKind: f('int btf__find_by_name_kind(void *btf, const char *name, uint32_t kind)'),
    btfTypeById: f('void *btf__type_by_id(void *btf, uint32_t id)'),
    btfNameByOffset: f('const char *btf__name_by_offset(void *btf, uint32_t offset)'),
    possibleCpus: f('int libbpf_num_possible_cpus(void)'),
    mapCreate: f(
      'int bpf_map_create(int type, const char *name, uint32_t key, uint32_t value, uint32_t n, void *opts)',
    ),
    mapLookup: f('int bpf_map_lookup_elem(int fd, const void *key, _Out_ uint8_t *value)'),
    mapUpdate: f('int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)'),
    mapDelete: f('int bpf_map_delete_elem(int fd, const void *key)'),
    mapNextKey: f('int bpf_map_get_next_key(int fd, const void *key, _Out_ uint8_t *next)'),
    programLoad: f(
      'int bpf_prog_load(int type, const char *name, const char *license, const void *insns, size_t n, void *opts)',
    ),
    programAttach: f('int bpf_prog_attach(int program, int target, int type, uint32_t flags)'),
    programDetach: f('int bpf_prog_detach2(int program, int target, int type)'),
    linkCreate: f('int bpf_link_create(int program, int target, int type, void *opts)'),
    infoByFd: f('int bpf_obj_get_info_by_fd(int fd, _Out_ uint8_t *info, _Inout_ uint32_t *size)'),
    testRun: f('int bpf_prog_test_run_opts(int program, void *opts)'),
  };
});

/**
 * Runs `call` and collects what libbpf prints meanwhile (warnings, and the verifier's log of a program that is refused).
 * @returns the call's result and the text
 */
export function withLog<T>(call: () => T): { result: T; log: string } {
  libbpf();
  const outer = captured;
  captured = [];
  try {
    const result = call();
    return { result, log: captured.join('') };
  } finally {
    captured = outer;
  }
}

/** The same for a call in another thread, which prints by way of this one. */
export async function withLogAside<T>(
  call: (done: (error: unknown, result: T) => void) => void,
): Promise<{ result: T; log: string }> {
  libbpf();
  const [outer, own] = [captured, [] as string[]];
  captured = own;
  try {
    const result = await new Promise<T>((resolve, reject) =>
      call((error, value) => (error ? reject(error) : resolve(value))),
    );
    return { result, log: own.join('') };
  } finally {
    captured = outer;
  }
}

/** A libbpf `*_opts` structure: its first member is its size. */
export function makeOpts(size: number, fill: (view: DataView) => void): Arena {
  const arena = new Arena(size);
  arena.view.setBigUint64(0, BigInt(size), true);
  fill(arena.view);
  return arena;
}
