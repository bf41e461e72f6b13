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

export const EXIT_HELP = `
Exit codes:
  0  done
  1  invalid input, or a requirement that is not met
  2  wrong use of the command line
  3  a privilege or a feature of the kernel is missing`;
