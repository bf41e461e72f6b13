// Node fetch (undici).
import { createHash } from 'node:crypto';

const letters = (n) => Buffer.from('abcdefghijklmnopqrstuvwxyz'.repeat(Math.ceil(n / 26)).slice(0, n));

async function* pieces(n) {
  for (let at = 0; at < n; at += 7000) yield letters(n).subarray(at, Math.min(n, at + 7000));
}

for (const arg of process.argv.slice(2)) {
  const [name, url] = arg.split('=');
  const ask = async (op, path, options = {}) => {
    const r = await fetch(url + path, options);
    const body = Buffer.from(await r.arrayBuffer());
    const sha1 = createHash('sha1').update(body).digest('hex');
    console.log(name, op, r.status, body.length, sha1, r.headers.get('content-type') ?? '-');
  };
  for (const i of [1, 2, 3]) await ask(`small-${i}`, '/small');
  await ask('head', '/small', { method: 'HEAD' });
  await ask('missing', '/missing');
  await ask('post-small', '/echo', { method: 'POST', body: letters(100) });
  await ask('post-large', '/echo', { method: 'POST', body: letters(200_000) });
  await ask('post-chunked', '/echo', { method: 'POST', body: ReadableStream.from(pieces(50_000)), duplex: 'half' });
  await ask('chunked', '/chunked');
  await ask('large', '/large');
  await ask('small-4', '/small');
}
