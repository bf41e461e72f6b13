#!/usr/bin/env node
// The built program if there is one, else the sources of this checkout through tsx.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const built = new URL('../dist/cli/main.js', import.meta.url);
const source = new URL('../src/cli/main.ts', import.meta.url);
try {
  if (!existsSync(fileURLToPath(built))) {
    const { register } = await import('tsx/esm/api');
    register();
    await import(source.href);
  } else await import(built.href);
} catch (error) {
  if (error?.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  const missing = /Cannot find (?:package|module) '([^']+)'/.exec(error.message)?.[1] ?? error.message;
  process.stderr.write(`error: ${missing} is not installed; run script/bootstrap\n`);
  process.exitCode = 3;
}
