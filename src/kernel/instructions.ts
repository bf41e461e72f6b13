/** An assembler of the few BPF instructions that probes need (Documentation/bpf/instruction-set.rst). */

const insn = (code: number, dst = 0, src = 0, off = 0, imm = 0): bigint =>
  BigInt(code) |
  (BigInt(dst | (src << 4)) << 8n) |
  (BigInt(off & 0xffff) << 16n) |
  (BigInt.asUintN(32, BigInt(imm)) << 32n);

/** rD = imm */
export const movImm = (dst: number, imm: number): bigint => insn(0xb7, dst, 0, 0, imm);
/** rD = rS */
export const movReg = (dst: number, src: number): bigint => insn(0xbf, dst, src);
/** rD += imm */
export const addImm = (dst: number, imm: number): bigint => insn(0x07, dst, 0, 0, imm);
/** *(u64 *)(r10 + off) = 0 */
export const storeZero = (off: number): bigint => insn(0x7a, 10, 0, off, 0);
/** rD = the map behind a descriptor (two slots) */
export const loadMap = (dst: number, fd: number): bigint[] => [insn(0x18, dst, 1, 0, fd), 0n];
/** call a helper by number */
export const call = (helper: number): bigint => insn(0x85, 0, 0, 0, helper);
/** return r0 */
export const exit = (): bigint => insn(0x95);

/** A whole program: return `value`. */
export const returnValue = (value: number): BigUint64Array => BigUint64Array.from([movImm(0, value), exit()]);
