import type { Command } from 'commander';
import { type ClientsOptions, clientsOf, withClients } from './clients.js';
import { EXIT, exitHelp } from './exit-codes.js';
import { loadInput, toJsonText } from './input.js';

/** `translate FILES`: the Envoy resources that the files stand for. */
export function register(program: Command): void {
  withClients(program.command('translate'))
    .description('print the Envoy resources that the files stand for, as JSON')
    .argument('<files...>', 'files or folders with policies, - for standard input')
    .option('--json', 'accepted for symmetry: the output is always JSON')
    .addHelpText('after', exitHelp({ 0: 'done', 1: 'invalid input' }))
    .action(async (files: string[], options: ClientsOptions) => {
      const { resources, ok } = await loadInput(files, false, clientsOf(options));
      process.exitCode = ok ? EXIT.OK : EXIT.INVALID;
      if (!ok) return;
      const { listeners, routeConfigs, clusters, endpoints } = resources;
      process.stdout.write(`${toJsonText({ listeners, route_configs: routeConfigs, clusters, endpoints })}\n`);
    });
}
