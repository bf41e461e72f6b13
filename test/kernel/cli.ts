/** The commands under test as a program of their own. */
import { Command } from 'commander';
import * as doctor from '../../src/cli/doctor.js';
import * as exec from '../../src/cli/exec.js';

const program = new Command('sidestep');
doctor.register(program);
exec.register(program);
await program.parseAsync();
