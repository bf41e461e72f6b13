/** Connections to servers. */
import { connect, type Socket } from 'node:net';
import type { Address } from './address.js';

/** Connects to a place; undefined when that fails, or takes longer than `timeoutMs`. Errors of the socket later on are taken. */
export function openConnection(
  { address, port }: Address,
  timeoutMs: number,
): Promise<{ readonly socket: Socket } | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, noDelay: true });
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    const settle = (opened: { readonly socket: Socket } | undefined): void => {
      clearTimeout(timer);
      resolve(opened);
    };
    socket.once('connect', () => settle({ socket }));
    for (const event of ['error', 'close']) socket.on(event, () => settle(undefined));
  });
}
