/**
 * How large the proxy's regular expression library makes the program of a pattern: Envoy refuses those over a limit
 * (`re2.max_program_size.error_level`, 100 unless configured), and a size cannot be had without that library.
 */
import { type ByteRange, byteRanges, EMPTY, type Instruction, OP, type Program } from './program.js';

/** As RE2's compiler emits them before it flattens a program. */
type Inst =
  | { op: 'alt'; out: number; out1: number }
  | { op: 'step'; out: number }
  | { op: 'nop'; out: number }
  | { op: 'match' }
  | { op: 'fail' };

/** ASCII letters of a class that holds both cases of each: one instruction that ignores case. */
function foldsAscii(ranges: readonly ByteRange[]): boolean {
  const has = (rune: number) => ranges.some(([low, high]) => low <= rune && rune <= high);
  let any = false;
  for (let upper = 0x41; upper <= 0x5a; upper++) {
    if (has(upper) !== has(upper + 32)) return false;
    any ||= has(upper);
  }
  return any;
}

class Builder {
  readonly insts: Inst[] = [{ op: 'fail' }];

  add(inst: Inst): number {
    return this.insts.push(inst) - 1;
  }

  /** The instructions of one class, which continues at `out`. */
  class(ranges: readonly ByteRange[], out: number): number {
    const fold = foldsAscii(ranges);
    let at = -1;
    for (const [low, high] of ranges) {
      if (fold && low >= 0x41 && high <= 0x5a) continue;
      const step = this.add({ op: 'step', out });
      at = at < 0 ? step : this.add({ op: 'alt', out: at, out1: step });
    }
    return at < 0 ? 0 : at;
  }
}

/** How often each instruction is the successor of another that can be reached. */
function predecessors(program: Program): Int32Array {
  const count = new Int32Array(program.numInst());
  const seen = new Set<number>();
  const stack = [program.start];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    if (seen.has(at)) continue;
    seen.add(at);
    const { op, out, arg } = program.getInst(at);
    if (op === OP.MATCH || op === OP.FAIL) continue;
    const next = op === OP.ALT || op === OP.ALT_MATCH ? [out, arg] : [out];
    for (const to of next) count[to]!++;
    stack.push(...next);
  }
  return count;
}

const isEmpty = ({ op, arg }: Instruction, flag: number) => op === OP.EMPTY_WIDTH && arg === flag;
const isThrough = ({ op }: Instruction) => op === OP.CAPTURE || op === OP.NOP;

/**
 * What RE2 takes out of a program: anchors at both ends, and a literal behind the first, which it looks for by itself.
 * @returns instructions to leave out, and whether the program needs no loop in front
 */
function trimmed(program: Program): { without: ReadonlySet<number>; anchored: boolean } {
  const without = new Set<number>();
  const before = predecessors(program);
  let at = program.start;
  // The whole match is group 0.
  while (isThrough(program.getInst(at)) && program.getInst(at).arg <= 0) at = program.getInst(at).out;
  let anchored = false;
  let inst = program.getInst(at);
  while (isEmpty(inst, EMPTY.TEXT_BEGIN) && before[at]! <= 1) {
    anchored = true;
    without.add(at);
    at = inst.out;
    inst = program.getInst(at);
  }
  const flags = inst.arg;
  while (anchored && inst.op === OP.RUNE1 && before[at] === 1 && inst.arg === flags) {
    without.add(at);
    at = inst.out;
    inst = program.getInst(at);
  }
  const literal = [...without].some((i) => program.getInst(i).op === OP.RUNE1);
  while (!anchored && isThrough(inst)) {
    at = inst.out;
    inst = program.getInst(at);
    if (!isEmpty(inst, EMPTY.TEXT_BEGIN) || before[at]! > 1) continue;
    anchored = true;
    without.add(at);
  }
  for (let i = 0; i < program.numInst(); i++) {
    if (!isEmpty(program.getInst(i), EMPTY.TEXT_END)) continue;
    let to = program.getInst(i).out;
    while (isThrough(program.getInst(to)) && before[to] === 1) to = program.getInst(to).out;
    if (program.getInst(to).op === OP.MATCH && before[to] === 1) without.add(i);
  }
  return { without, anchored: anchored && !literal };
}

/** A number that programSize is never over, had without much work. */
export function sizeBound(program: Program): number {
  let bound = 8;
  for (let i = 0; i < program.numInst(); i++) {
    const instruction = program.getInst(i);
    const isClass = instruction.op === OP.RUNE && instruction.runes.length > 1;
    if (!isClass || instruction.runes.at(-1)! < 0x80) bound += 2 + (isClass ? instruction.runes.length : 0);
    else bound += 2 * byteRanges(instruction).length + 2;
  }
  return 2 * bound;
}

/**
 * The number of instructions that RE2's flattened program for the pattern has. Where the two libraries simplify a pattern
 * in different ways it is off by a few.
 * @param program re2js's program of the pattern.
 */
export function programSize(program: Program): number {
  const b = new Builder();
  const { without, anchored } = trimmed(program);
  // A place for each instruction first, so that they can refer to each other.
  const n = program.numInst();
  const base = b.insts.length;
  for (let i = 0; i < n; i++) b.add({ op: 'nop', out: 0 });
  for (let i = 0; i < n; i++) {
    const instruction: Instruction = program.getInst(i);
    const out = base + instruction.out;
    const at = base + i;
    if (without.has(i)) {
      b.insts[at] = { op: 'nop', out };
      continue;
    }
    switch (instruction.op) {
      case OP.ALT:
      case OP.ALT_MATCH:
        b.insts[at] = { op: 'alt', out, out1: base + instruction.arg };
        break;
      case OP.CAPTURE:
      case OP.EMPTY_WIDTH:
        b.insts[at] = { op: 'step', out };
        break;
      case OP.MATCH:
        b.insts[at] = { op: 'match' };
        break;
      case OP.FAIL:
        b.insts[at] = { op: 'nop', out: 0 };
        break;
      case OP.NOP:
        b.insts[at] = { op: 'nop', out };
        break;
      default:
        b.insts[at] = { op: 'nop', out: b.class(byteRanges(instruction), out) };
    }
  }
  const start = base + program.start;
  let unanchored = start;
  if (!anchored) {
    unanchored = b.add({ op: 'alt', out: start, out1: 0 });
    const any = b.add({ op: 'step', out: unanchored });
    b.insts[unanchored] = { op: 'alt', out: start, out1: any };
  }
  return flattened(b.insts, start, unanchored);
}

/** Counts as Prog::Flatten does: one list for each root, alternatives and empty instructions dissolved. */
function flattened(insts: readonly Inst[], start: number, unanchored: number): number {
  const resolve = (id: number): number => {
    let at = id;
    for (let inst = insts[at]!; inst.op === 'nop'; inst = insts[at]!) at = inst.out;
    return at;
  };
  const roots = new Set<number>([0, resolve(unanchored), resolve(start)]);
  const before = new Map<number, Set<number>>();
  const seen = new Set<number>();
  const stack = [resolve(unanchored)];
  for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
    if (seen.has(id)) continue;
    seen.add(id);
    const inst = insts[id]!;
    if (inst.op === 'alt') {
      for (const to of [resolve(inst.out), resolve(inst.out1)]) {
        const list = before.get(to) ?? new Set();
        before.set(to, list.add(id));
        stack.push(to);
      }
    } else if (inst.op === 'step') {
      roots.add(resolve(inst.out));
      stack.push(resolve(inst.out));
    }
  }
  const reach = (root: number): Set<number> => {
    const found = new Set<number>();
    const todo = [root];
    for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
      if (found.has(id)) continue;
      found.add(id);
      const inst = insts[id]!;
      if ((id === root || !roots.has(id)) && inst.op === 'alt') todo.push(resolve(inst.out1), resolve(inst.out));
    }
    return found;
  };
  for (const root of [...roots].sort((a, b) => b - a)) {
    if (root === 0 || root === resolve(start) || root === resolve(unanchored)) continue;
    const reached = reach(root);
    for (const id of reached) {
      for (const from of before.get(id) ?? []) if (!reached.has(from)) roots.add(id);
    }
  }
  let size = 0;
  for (const root of roots)
    for (const id of reach(root))
      if (id !== root && roots.has(id)) size++;
      else if (insts[id]!.op !== 'alt') size++;
  return size;
}
