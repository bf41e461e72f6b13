// Node http as a server.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const [address, port] = process.argv.slice(2);

createServer(async (req, res) => {
  const hash = createHash('sha1');
  let length = 0;
  for await (const d of req) {
    hash.update(d);
    length += d.length;
  }
  res.setHeader('content-type', 'text/plain');
  if (req.url === '/small') {
    const text = 'small body of node\n';
    res.setHeader('content-length', text.length);
    return void res.end(text);
  }
  if (req.url === '/large') {
    res.setHeader('content-length', 300_000);
    return void res.end('0123456789'.repeat(30_000));
  }
  if (req.url === '/chunked') {
    for (let i = 0; i < 10; i++) {
      res.write(String.fromCharCode(97 + i).repeat(2000));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return void res.end();
  }
  if (req.url === '/echo') return void res.end(`${length} ${hash.digest('hex')}\n`);
  res.statusCode = 404;
  res.end('nothing here\n');
}).listen(Number(port), address, () => console.log('listening'));
