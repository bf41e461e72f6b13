/** Exit codes of every command; documented in --help. */
export const EXIT = {
  OK: 0,
  /** invalid input, or a requirement (--require) that is not met */
  INVALID: 1,
  /** wrong use of the command line */
  USAGE: 2,
  /** a privilege or a kernel feature is missing */
  UNAVAILABLE: 3,
} as const;

/** What --help says of a command's exit codes. @param meanings of those beside USAGE, which every command has */
export function exitHelp(meanings: Readonly<Record<number, string>>): string {
  const all = { ...meanings, [EXIT.USAGE]: 'wrong use of the command line' };
  return ['\nExit codes:', ...Object.entries(all).map(([code, meaning]) => `${code.padStart(3)}  ${meaning}`)].join(
    '\n',
  );
}
