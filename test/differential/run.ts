/**
 * The differential test as a command, for long runs and for looking at what differs:
 * `npx tsx test/differential/run.ts [--requests N] [--seed N] [--listeners N] [--subject sidestep|envoy]
 * [--kind ordinary|odd|mixed] [--survey] [--bypass]`. With --survey differences are counted by kind instead of stopping at the
 * first and shrinking it. Exit code 1 if anything differs.
 */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { Differential } from './harness.js';
import { oddSteps, ordinarySteps } from './requests.js';

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '5000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    listeners: { type: 'string', default: '10' },
    subject: { type: 'string', default: 'sidestep' },
    kind: { type: 'string', default: 'ordinary' },
    survey: { type: 'boolean', default: false },
    bypass: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const listeners = Number(values.listeners);
const arbitrary = values.kind === 'odd' ? oddSteps : ordinarySteps;
const d = await Differential.open({
  seed,
  listeners,
  mixed: values.kind === 'mixed',
  subject: values.subject === 'envoy' ? { kind: 'envoy' } : { kind: 'sidestep', bypass: values.bypass },
});
let failures = 0;
try {
  const runs = Math.ceil(Number(values.requests) / listeners / 3);
  const kinds = new Map<string, { count: number; example: string }>();
  const one = async (i: number): Promise<void> => {
    if (!values.survey) {
      const report = await d.check(i, arbitrary, { runs, seed });
      if (report) {
        failures++;
        console.log(`${report}\n`);
      }
      return;
    }
    for (const steps of fc.sample(arbitrary(d.configs[i]!), { seed, numRuns: runs })) {
      const found = await d.compare(i, steps);
      if (!found.length) continue;
      failures++;
      const kind = found.map((line) => line.replace(/\d+/g, 'N').slice(0, 150)).join('\n    ');
      const known = kinds.get(kind) ?? { count: 0, example: '' };
      const sent = steps.flat().map((r) => JSON.stringify(r));
      const example = `${d.configs[i]!.name}\n      ${sent.join('\n      ')}\n    ${found.join('\n    ')}`;
      // the shortest connection says most
      if (!known.example || example.length < known.example.length) known.example = example;
      known.count++;
      kinds.set(kind, known);
    }
  };
  await Promise.all(d.configs.map((_, i) => one(i)));
  for (const { count, example } of [...kinds.values()].sort((a, b) => b.count - a.count)) {
    console.log(`${count} x ${example.slice(0, 3000)}\n`);
  }
  if (kinds.size) console.log(`configurations: ${await d.saveConfigs()}`);
  console.log(
    `seed ${seed}: ${d.sent} requests, ${failures} ${values.survey ? 'connections' : 'listeners'} with differences`,
  );
  console.log(d.outcomeSummary());
  if (d.sidestep) console.log(JSON.stringify(await d.sidestep.status()));
} finally {
  await d.close();
}
process.exitCode = failures ? 1 : 0;
