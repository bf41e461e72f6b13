/** Colours of a terminal. The words say everything that the colours do. */

export type Paint = Readonly<
  Record<'bold' | 'dim' | 'code' | 'kernel' | 'proxy' | 'invalid' | 'error' | 'warning', (text: string) => string>
>;

const same = (text: string): string => text;

/** No colours. */
export const plain: Paint = {
  ...{ bold: same, dim: same, code: same, kernel: same, proxy: same },
  ...{ invalid: same, error: same, warning: same },
};

const sgr =
  (on: number, off: number) =>
  (text: string): string =>
    text === '' ? '' : `\u001b[${on}m${text}\u001b[${off}m`;

/** Colours by SGR sequences (ECMA-48); blue and yellow, which people with any colour vision tell apart. */
export const colours: Paint = {
  bold: sgr(1, 22),
  dim: sgr(2, 22),
  code: sgr(36, 39),
  kernel: sgr(34, 39),
  proxy: sgr(33, 39),
  invalid: sgr(31, 39),
  error: sgr(31, 39),
  warning: sgr(33, 39),
};

/**
 * Colours where the stream is a terminal that has them; NO_COLOR (https://no-color.org) and TERM=dumb turn them off,
 * FORCE_COLOR turns them on.
 */
export function paintFor(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv = process.env): Paint {
  if (env.NO_COLOR) return plain;
  if (env.FORCE_COLOR && env.FORCE_COLOR !== '0') return colours;
  return stream.isTTY && env.TERM !== 'dumb' ? colours : plain;
}
