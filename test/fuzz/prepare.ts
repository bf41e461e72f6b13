/** Writes what the fuzzer needs into a folder: `image` (a compiled policy) and `seeds/`. Usage: prepare.ts FOLDER */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compileImage } from '../../src/compile/image.js';
import { FUZZ_PLAN } from './plan.js';
import { ANSWERS, REQUESTS } from './seeds.js';

const MODE = { REQUEST: 0, ANSWER: 1, TO_HEAD: 2, V6: 4 };

const folder = process.argv[2];
if (!folder) throw new Error('usage: prepare.ts FOLDER');
mkdirSync(join(folder, 'seeds'), { recursive: true });
const { image, verdicts } = compileImage(FUZZ_PLAN, {
  generation: 1,
  endpointId: (_, port) => port - 20000,
  proxyEndpointId: () => 9,
});
writeFileSync(join(folder, 'image'), image);
for (const reason of [...verdicts.values()].flat()) console.error(`not covered: ${reason.message}`);

let count = 0;
const seed = (mode: number, choice: number, text: string): void =>
  writeFileSync(
    join(folder, 'seeds', `seed-${count++}`),
    Buffer.concat([Buffer.from([mode, choice]), Buffer.from(text, 'latin1')]),
  );
for (const text of REQUESTS) {
  seed(MODE.REQUEST, 0, text);
  seed(MODE.REQUEST | MODE.V6, 1, text);
}
for (const text of ANSWERS) {
  seed(MODE.ANSWER, 0, text);
  seed(MODE.ANSWER, 7, text);
  seed(MODE.ANSWER | MODE.TO_HEAD, 1, text);
}
