/** What other processes ask a running instance. */
import { request } from 'node:http';
import { text } from 'node:stream/consumers';

/**
 * The body of an instance's answer to GET `path` (see control-server.ts) at its control socket.
 * @throws Error when nobody answers within 5 s
 */
export function askControl(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    // a connection of its own: one that was kept could be that of an agent that has ended
    const call = request({ socketPath, path, timeout: 5000, agent: false }, (response) => {
      text(response).then(resolve, reject);
    });
    call.on('timeout', () => call.destroy(new Error('the agent does not answer')));
    call.on('error', reject);
    call.end();
  });
}
