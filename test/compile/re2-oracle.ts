/** Google's RE2 itself, by way of its Python binding, which script/bootstrap installs into .cache/re2. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

export interface Answered {
  /** RE2 takes the pattern */
  readonly valid: boolean;
  /** instructions of its program, as the proxy counts them */
  readonly size: number;
  /** per input: whether all of it matches */
  readonly matches: readonly boolean[];
}

const PROGRAM = `
import base64, json, sys
try:
    import re2
except ImportError:
    sys.exit(3)
options = re2.Options()
options.log_errors = False
options.encoding = re2.Options.Encoding.LATIN1  # as Envoy's
for line in sys.stdin:
    pattern, inputs = json.loads(line)
    try:
        b = re2.compile(pattern.encode(), options)
    except Exception:
        print(json.dumps([False, 0, []]))
        continue
    found = [b.fullmatch(base64.b64decode(x)) is not None for x in inputs]
    print(json.dumps([True, b.programsize, found]))
`;

/** Asks RE2 about patterns and inputs. Returns undefined when its binding is not installed. */
export function askRe2(cases: readonly (readonly [string, readonly Uint8Array[]])[]): Answered[] | undefined {
  const own = path.resolve('.cache/re2/bin/python');
  const input = cases
    .map(([pattern, inputs]) => JSON.stringify([pattern, inputs.map((x) => Buffer.from(x).toString('base64'))]))
    .join('\n');
  const result = spawnSync(existsSync(own) ? own : 'python3', ['-c', PROGRAM], {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (result.status === 3 || result.error) return undefined;
  if (result.status !== 0) throw new Error(result.stderr);
  return result.stdout
    .trim()
    .split('\n')
    .map((line) => {
      const [valid, size, matches] = JSON.parse(line) as [boolean, number, boolean[]];
      return { valid, size, matches };
    });
}
