/**
 * A process to be killed: attaches a program to a cgroup by link and accepts one connection that is to be reset when it
 * dies. Arguments: object, program, cgroup directory. Prints the port of its listener.
 */
import { createServer } from 'node:net';
import { openCgroup } from '../../src/kernel/cgroups.js';
import { BpfObject } from '../../src/kernel/libbpf.js';
import { fdOf, setLinger } from '../../src/kernel/syscalls.js';

const [objectPath, program, cgroup] = process.argv.slice(2) as [string, string, string];
const object = BpfObject.open(objectPath);
object.load();
object.attachCgroup(program, openCgroup(cgroup));
const server = createServer((socket) => {
  setLinger(fdOf(socket)!, 0);
  socket.write('taken');
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as { port: number }).port));
