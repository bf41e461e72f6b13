/** A server as a sidecar would stand before it: mutual TLS with the mesh's certificates. Arguments: address, port, folder with the files. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';

const [address, port, folder] = process.argv.slice(2) as [string, string, string];
const file = (name: string) => readFileSync(join(folder, name));
const server = createServer(
  {
    cert: file('cert-chain.pem'),
    key: file('key.pem'),
    ca: file('root-cert.pem'),
    requestCert: true,
    ALPNProtocols: ['istio-http/1.1', 'istio'],
  },
  (req, res) => {
    const socket = req.socket as TLSSocket;
    // a resumed handshake tells neither name nor certificate
    const { subjectaltname } = socket.getPeerCertificate();
    res.setHeader('x-seen', `sni=${socket.servername} alpn=${socket.alpnProtocol} peer=${subjectaltname}`);
    if (req.url === '/close') res.setHeader('connection', 'close');
    res.end('ok');
  },
);
server.on('tlsClientError', () => undefined);
server.listen(Number(port), address, () => console.log('listening'));
