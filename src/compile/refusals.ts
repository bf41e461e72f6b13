/** Why an action is left to the proxy that the plan gives to the kernel. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
}

/** A refusal with a code of src/plan/reasons.ts. */
export const refuse = (code: string, message: string): Refusal => ({ code, message });

/** Whether it is one, and not what was to be stored. */
export const isRefusal = (x: Refusal | Record<string, number>): x is Refusal => typeof x.code === 'string';
