/** %ENVIRONMENT(NAME)% in values of headers, which Envoy replaces once, when it reads its configuration. */

/** Environment variables of the proxy by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What Envoy writes where a variable does not exist. */
const MISSING = '-';
/** Values that need no care on their way into a head. */
const PLAIN = /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/;
const OPERATOR = /%%|%([A-Z_0-9]+)(?:\(([^()]*)\))?(?::(\d+))?%/gs;

/**
 * The value with the variables in it written out, percent signs of theirs doubled, so that it remains a format string of
 * Envoy's. What is not known stays as it is.
 * @param environment that of the proxy; undefined: not known
 */
export function withEnvironment(value: string, environment: Environment | undefined): string {
  if (!environment) return value;
  return value.replace(OPERATOR, (whole, command: string | undefined, name = '', most?: string) => {
    if (command !== 'ENVIRONMENT' || name === '') return whole;
    const found = environment[name];
    if (found !== undefined && !PLAIN.test(found)) return whole;
    const text = found === undefined ? MISSING : found.slice(0, most === undefined ? undefined : Number(most));
    return text.replaceAll('%', '%%');
  });
}
