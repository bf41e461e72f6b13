import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import {
  boundSocket,
  currentNetnsCookie,
  enterNamespace,
  inNamespace,
  interfaceAddresses,
  namespaceId,
  namespacePath,
  openNamespace,
  sourceTowards,
} from '../../src/kernel/netns.js';
import { type Host, nodeWithPods } from '../../src/lab/netns.js';
import { Lab, runCommand } from '../../src/lab/processes.js';
import { needsRoot } from './compile-bpf.js';

const ANY = new Uint8Array(4);

describe('network namespaces', { skip: needsRoot }, () => {
  let lab: Lab;
  let pod: Host;
  let node: Host;
  before(async () => {
    lab = await Lab.open('netns');
    const made = await nodeWithPods(lab, 1);
    node = made.node;
    pod = made.pods[0]!;
  });
  after(() => lab.close());

  it('a name is one of `ip netns`, anything else a path', () => {
    assert.equal(namespacePath('blue'), '/run/netns/blue');
    assert.equal(namespacePath('/proc/1/ns/net'), '/proc/1/ns/net');
    assert.equal(namespacePath('./net'), './net');
  });

  it('a visit sees what is there, and comes back', () => {
    const home = { id: namespaceId('/proc/self/ns/net'), cookie: currentNetnsCookie() };
    const fd = openNamespace(namespacePath(pod.name));
    try {
      assert.equal(namespaceId(fd), namespaceId(namespacePath(pod.name)));
      const seen = inNamespace(fd, () => ({
        cookie: currentNetnsCookie(),
        addresses: interfaceAddresses().map(({ address }) => address),
        towards: sourceTowards(Uint8Array.of(192, 0, 2, 1)),
        loopback: sourceTowards(Uint8Array.of(127, 0, 0, 1)),
      }));
      assert.notEqual(seen.cookie, home.cookie);
      assert.ok(seen.addresses.includes(pod.ipv4) && seen.addresses.includes(pod.ipv6), seen.addresses.join());
      assert.ok(!seen.addresses.includes(node.ipv4));
      assert.equal(seen.towards?.join('.'), pod.ipv4);
      assert.equal(seen.loopback?.join('.'), '127.0.0.1');
      assert.throws(() =>
        inNamespace(fd, () => {
          throw new Error('inside');
        }),
      );
    } finally {
      closeSync(fd);
    }
    assert.deepEqual({ id: namespaceId('/proc/self/ns/net'), cookie: currentNetnsCookie() }, home);
  });

  it('a socket that was bound there takes connections from there, and only those', async () => {
    const fd = openNamespace(namespacePath(pod.name));
    const bound = inNamespace(fd, () => boundSocket(ANY));
    assert.equal(
      inNamespace(fd, () => boundSocket(Uint8Array.of(192, 0, 2, 1))),
      undefined,
      'not an address of the namespace',
    );
    closeSync(fd);
    assert.ok(bound);
    const server = createServer((socket) => socket.end('hello')).listen({ fd: bound.fd });
    try {
      const ask = (host: Host) =>
        runCommand(host.command(['bash', '-c', `cat < /dev/tcp/127.0.0.1/${bound.port}`]), { timeoutMs: 5000 });
      assert.equal((await ask(pod)).stdout, 'hello');
      assert.notEqual((await ask(node)).code, 0);
    } finally {
      server.close();
    }
  });

  it('what is no namespace is an error', () => {
    assert.throws(() => openNamespace('/run/netns/sidestep-no-such'), /find the network namespace .*ENOENT/);
    const fd = openNamespace('/dev/null');
    assert.throws(() => enterNamespace(fd), /EINVAL/);
    closeSync(fd);
  });
});
