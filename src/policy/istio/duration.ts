/** Go durations, which Istio's documents use, and proto3 JSON durations, which Envoy's do. */

const UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

/**
 * Parses a duration as Go's `time.ParseDuration` does (`1h30m`, `.5s`, `-2ms`).
 *
 * @returns nanoseconds, or undefined if the text is no duration
 */
export function parseDuration(text: string): bigint | undefined {
  const match = /^([+-]?)(.+)$/.exec(text);
  if (!match) return undefined;
  const body = match[2] ?? '';
  if (body === '0') return 0n;
  let total = 0n;
  let end = 0;
  for (const part of body.matchAll(/(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)/gy)) {
    const [all, whole = '', fraction = '', unit = 's'] = part;
    if (whole === '' && fraction === '') return undefined;
    const scale = UNITS[unit] ?? 1n;
    total += BigInt(whole || '0') * scale;
    if (fraction) total += (BigInt(fraction) * scale) / 10n ** BigInt(fraction.length);
    end = part.index + all.length;
  }
  if (end !== body.length || end === 0) return undefined;
  // Go counts nanoseconds in 64 bits; Envoy takes no more either.
  if (total > 9223372036854775807n) return undefined;
  return match[1] === '-' ? -total : total;
}

/** Writes nanoseconds as proto3 JSON does: seconds with 0, 3, 6 or 9 digits after the point. */
export function protoDuration(nanoseconds: bigint): string {
  const sign = nanoseconds < 0n ? '-' : '';
  const absolute = nanoseconds < 0n ? -nanoseconds : nanoseconds;
  const rest = absolute % 1_000_000_000n;
  let fraction = '';
  if (rest !== 0n) {
    fraction = rest.toString().padStart(9, '0');
    while (fraction.endsWith('000')) fraction = fraction.slice(0, -3);
    fraction = `.${fraction}`;
  }
  return `${sign}${absolute / 1_000_000_000n}${fraction}s`;
}

/** A Go duration that validation has accepted, as proto3 JSON; text that is no duration gives `0s`. */
export function envoyDuration(text: string): string {
  return protoDuration(parseDuration(text) ?? 0n);
}
