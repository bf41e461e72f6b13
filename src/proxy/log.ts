import { open } from 'node:fs/promises';

/** Bytes of a log that are looked at. */
const WINDOW = 64 * 1024;

/** Size of a file in bytes, 0 when there is none. */
export async function fileSize(path: string): Promise<number> {
  try {
    const file = await open(path);
    try {
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  } catch {
    return 0;
  }
}

/** The lines of a log from byte `from` on; only the last 64 KiB of them. */
async function logLines(path: string, from: number): Promise<string[]> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const start = Math.max(from, size - WINDOW);
      const buffer = Buffer.alloc(Math.max(0, size - start));
      await file.read(buffer, 0, buffer.length, start);
      return buffer
        .toString('utf8')
        .split('\n')
        .filter((line) => line.trim() !== '');
    } finally {
      await file.close();
    }
  } catch {
    return [];
  }
}

/** What a log says from byte `from` on about why Envoy refused something, else its last lines. */
export async function explainLog(path: string, from: number): Promise<string> {
  const lines = (await logLines(path, from)).map((line) => line.replace(/^(\[[^\]]*\])+ /, ''));
  const telling = lines.filter((line) =>
    /rejected|error (adding|initializing|updating)|cannot bind|Address already/i.test(line),
  );
  const text = (telling.length > 0 ? telling.slice(-3) : lines.slice(-5)).join('; ');
  return text.length > 1000 ? `${text.slice(0, 1000)}…` : text || 'its log says nothing';
}
