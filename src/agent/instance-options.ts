/** What an instance is started with, where its files are, and why it may not start. */
import { join } from 'node:path';
import type { Identity } from '../policy/istio/identities.js';
import type { LoadOptions } from '../policy/load.js';
import type { InboundOption } from './policy.js';

export interface InstanceOptions {
  readonly name: string;
  readonly files: readonly string[];
  /** 'own': start an Envoy; 'none': there is no proxy; else its address, port 0 meaning the listener's own */
  readonly proxy: 'own' | 'none' | { address: string; port: number };
  readonly admin: { host: string; port: number };
  /** who clients are where no document knows their address */
  readonly identity?: Identity;
  /** the workload that the clients are, as policies tell them apart */
  readonly workload?: LoadOptions['workload'];
  /** folder with the node's certificates of the mesh */
  readonly certificates?: string;
  /** answers decided in the kernel get `server`, `date` and `x-envoy-upstream-service-time` as from Envoy */
  readonly envoyHeaders: boolean;
  /** ports of workloads that a listener of the policies stands before */
  readonly inbound: readonly InboundOption[];
  /**
   * what the files' policies ask of servers on this host is asked where connections arrive, too, and who keeps that while
   * the agent is away
   */
  readonly atServers?: 'proxy' | 'refuse';
  /** where requests are decided: at the applications' sockets, or where the agent accepts their connections */
  readonly intake: 'socket' | 'listener';
  readonly log: (message: string) => void;
}

/** Ports of workloads are taken. */
export function takesInbound({ inbound, atServers }: InstanceOptions): boolean {
  return inbound.length > 0 || atServers !== undefined;
}

/** Where an instance's files are. */
export interface InstancePaths {
  readonly folder: string;
  readonly proxy: string;
  /** Unix sockets: where the proxy asks the agent, and where it reports its tries */
  readonly consults: string;
  readonly reports: string;
  /** where commands talk to the agent */
  readonly control: string;
  readonly hosts: string;
  readonly state: string;
}

/** The paths in an instance's folder. */
export function instancePaths(folder: string): InstancePaths {
  const proxy = join(folder, 'proxy');
  return {
    folder,
    proxy,
    consults: join(proxy, 'consult.sock'),
    reports: join(proxy, 'tries.sock'),
    control: join(folder, 'control.sock'),
    hosts: join(folder, 'hosts'),
    state: join(folder, 'state.json'),
  };
}

/** Bad input, or something that stands in the way: the message is for the user. */
export class StartError extends Error {
  override readonly name = 'StartError';
  constructor(
    message: string,
    readonly kind: 'input' | 'unavailable',
  ) {
    super(message);
  }
}
