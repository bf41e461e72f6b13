// Opens the shop: one process for each service, at loopback addresses of their own. Ends them when it ends.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const SERVICES = [
  ['frontend', '127.10.0.10', 'v1'],
  ['catalog', '127.10.0.11', 'v1'],
  ['cart', '127.10.0.12', 'v1'],
  ['recommendations', '127.10.0.13', 'v1'],
  ['reviews', '127.10.0.21', 'v1'],
  ['reviews', '127.10.0.22', 'v2'],
];

const children = [];
let listening = 0;
let closing = false;

function close(code) {
  if (closing) return;
  closing = true;
  for (const child of children) child.kill('SIGTERM');
  process.exitCode = code;
  process.disconnect?.();
}

for (const [name, address, version] of SERVICES) {
  const child = fork(fileURLToPath(new URL(`services/${name}.mjs`, import.meta.url)), [address, '8080', version]);
  children.push(child);
  child.on('message', () => {
    listening++;
    if (listening === SERVICES.length) console.log('the shop is open');
  });
  child.on('exit', (code) => close(closing ? 0 : (code ?? 1)));
}
process.on('SIGTERM', () => close(0));
process.on('SIGINT', () => close(0));
