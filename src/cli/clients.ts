/** Who the clients are: options that the commands that read policies have in common. */
import { type Command, InvalidArgumentError } from 'commander';
import type { Clients } from '../policy/resources.js';

export interface ClientsOptions {
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** Names of namespaces (RFC 1123 labels). */
function namespace(text: string): string {
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text)) throw new InvalidArgumentError('the name of a namespace.');
  return text;
}

/** `KEY=VALUE,...`, as `kubectl` has them. */
function labels(text: string, before: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const found = { ...before };
  for (const part of text.split(',')) {
    const match = /^\s*([A-Za-z0-9._/-]+)=([A-Za-z0-9._-]*)\s*$/.exec(part);
    if (!match) throw new InvalidArgumentError('labels are KEY=VALUE,KEY=VALUE...');
    found[match[1]!] = match[2]!;
  }
  return found;
}

/** Adds `--namespace` and `--labels` to a command. */
export function withClients(command: Command): Command {
  return command
    .option('--namespace <name>', 'namespace that the clients are in (default: that of most of the files)', namespace)
    .option(
      '--labels <key=value,...>',
      'labels of the clients: workload selectors and sourceLabels tell them apart by these (repeatable)',
      labels,
    );
}

/** The clients that the options speak of, as an option of `loadFiles`; {} if they speak of none. */
export function clientsOf({ namespace: name, labels: own }: ClientsOptions): { workload?: Partial<Clients> } {
  if (name === undefined && own === undefined) return {};
  return { workload: { ...(name === undefined ? {} : { namespace: name }), ...(own ? { labels: own } : {}) } };
}
