/**
 * The upstream of the chaos run: `node server.ts ADDRESS PORT NAME`; prints `listening`. Each answer names the request
 * that it belongs to (`x-nonce`), what was received of it (`x-received`: method, length and SHA-1 of the body), and the
 * policy that sent it here (`x-policy`: both headers that one generation of the policy adds).
 */
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { sleep } from '../../src/lab/processes.js';
import { ByteQueue, chunkedBytes, formatHead, headerValues, parseHead, readChunked } from '../../src/lab/wire.js';
import { pattern, readWish, type Wish } from './pattern.js';

async function send(socket: Socket, bytes: Buffer, slow: boolean): Promise<void> {
  const step = slow ? Math.max(1, Math.ceil(bytes.length / 5)) : bytes.length;
  for (let at = 0; at < bytes.length; at += step) {
    if (socket.destroyed) return;
    if (!socket.write(bytes.subarray(at, at + step))) {
      await new Promise<void>((resolve) => {
        socket.once('drain', resolve);
        socket.once('close', () => resolve());
      });
    }
    if (slow) await sleep(3);
  }
}

/** @returns whether the connection goes on */
async function answer(socket: Socket, wish: Wish, head: readonly string[], method: string): Promise<boolean> {
  if (wish.delay) await sleep(wish.delay);
  if (wish.leave === 'vanish') return false;
  const nonce = head[0]!;
  const body = pattern(nonce, wish.size);
  const framing: [string, string] = wish.chunk
    ? ['Transfer-Encoding', 'chunked']
    : ['Content-Length', String(body.length)];
  const bytes = Buffer.concat([
    Buffer.from(
      formatHead('HTTP/1.1 200 OK', [
        ['X-Nonce', nonce],
        ['X-Received', head[1]!],
        ['X-Policy', head[2]!],
        ['X-Server', head[3]!],
        framing,
        ...(wish.leave === 'close' ? ([['Connection', 'close']] as [string, string][]) : []),
      ]),
    ),
    method === 'HEAD' ? Buffer.alloc(0) : wish.chunk ? chunkedBytes(body, wish.chunk) : body,
  ]);
  if (wish.leave === 'cut') {
    await send(socket, bytes.subarray(0, Math.max(1, bytes.length >> 1)), false);
    socket.resetAndDestroy();
    return false;
  }
  await send(socket, bytes, wish.slow);
  return wish.leave === 'no';
}

async function serve(socket: Socket, name: string): Promise<void> {
  const queue = new ByteQueue();
  socket.on('data', (d) => queue.push(d));
  socket.on('end', () => queue.end('end'));
  socket.on('error', (e) => queue.end(e));
  socket.on('close', () => queue.end('end'));
  while (!(await queue.atEnd())) {
    const { first, headers } = parseHead(await queue.until('\r\n\r\n'));
    const [method, target] = first;
    const value = (header: string): string => headerValues(headers, header).join('+');
    const body = value('transfer-encoding')
      ? (await readChunked(queue)).body
      : await queue.bytes(Number(value('content-length') || 0));
    const received = `${method} ${body.length} ${createHash('sha1').update(body).digest('hex')}`;
    const head = [value('x-nonce'), received, `${value('x-policy-a')}/${value('x-policy-b')}`, name];
    if (!(await answer(socket, readWish(target), head, method))) break;
  }
  socket.end();
}

const [address = '', port = '', name = ''] = process.argv.slice(2);
createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  serve(socket, name).catch(() => socket.destroy());
}).listen(Number(port), address, () => console.log('listening'));
