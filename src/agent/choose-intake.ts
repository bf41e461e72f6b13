/** Where requests are decided, on a kernel that may not be able to do everything. */
import { type Check, probeEarlyData, probeNativeData } from '../kernel/probes.js';

export type Intake = 'socket' | 'listener';

/** What is asked of the kernel; the tests put others in their place. */
export interface IntakeProbes {
  readonly nativeData: () => Promise<Check>;
  readonly earlyData: () => Promise<Check>;
}

/**
 * The wanted intake if this kernel can do it without loss, else the safe one.
 * @param inbound connections are taken at ports of workloads, which is always listener intake
 * @returns why it is another than the wanted one, if it is; `intake` undefined: there is none that works
 */
export async function chooseIntake(
  wanted: Intake,
  inbound: boolean,
  probes: IntakeProbes = { nativeData: probeNativeData, earlyData: probeEarlyData },
): Promise<{ intake: Intake | undefined; why: string | undefined }> {
  if (wanted === 'listener' || inbound) {
    const early = await probes.earlyData();
    if (!early.ok) return { intake: undefined, why: `listener intake does not work here: ${early.detail}` };
  }
  if (wanted === 'listener') return { intake: wanted, why: undefined };
  const native = await probes.nativeData();
  if (native.ok) return { intake: wanted, why: undefined };
  const early = await probes.earlyData();
  const lost = `this kernel may lose data at applications’ sockets (${native.detail})`;
  return early.ok
    ? { intake: 'listener', why: `${lost}: requests are decided at the listener instead` }
    : { intake: undefined, why: `${lost}, and listener intake does not work either: ${early.detail}` };
}
