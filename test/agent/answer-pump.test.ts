/** The end of an answer that the agent carries: what stands behind it must not become the beginning of the next one. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AnswerPump } from '../../src/agent/answer-pump.js';

const HEAD = 'HTTP/1.1 200 OK\r\n';

/** Whether the connection may be used again, as it is known when the last bytes are written; undefined: never. */
function reusableAtEnd(make: (sink: ConstructorParameters<typeof AnswerPump>[0]) => AnswerPump, bytes: string) {
  let reusable: boolean | undefined;
  const pump: AnswerPump = make({
    write: (_, last) => {
      if (last) reusable = pump.reusable;
    },
    fail: () => undefined,
  });
  pump.feed(Buffer.from(bytes, 'latin1'));
  return reusable;
}

describe('bytes behind an answer', () => {
  const whole: Record<string, string> = {
    'with a length': `${HEAD}Content-Length: 2\r\n\r\nok`,
    'without a body': `${HEAD}Content-Length: 0\r\n\r\n`,
    'in chunks': `${HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
  };
  for (const [name, answer] of Object.entries(whole))
    test(`an answer ${name}`, () => {
      const make = (sink: ConstructorParameters<typeof AnswerPump>[0]): AnswerPump => new AnswerPump(sink, false);
      assert.equal(reusableAtEnd(make, answer), true);
      assert.equal(reusableAtEnd(make, `${answer}HTTP/1.1 200 OK\r\n`), false);
    });

  for (const [name, rest, bytes] of [
    ['with a length', { left: 2 }, 'ok'],
    ['in chunks', { chunkState: 0, remaining: 0n }, '2\r\nok\r\n0\r\n\r\n'],
  ] as const)
    test(`the rest of an answer ${name}`, () => {
      const make = (sink: ConstructorParameters<typeof AnswerPump>[0]): AnswerPump => AnswerPump.resume(sink, rest);
      assert.equal(reusableAtEnd(make, bytes), true);
      assert.equal(reusableAtEnd(make, `${bytes}x`), false);
    });

  test('an answer of which nothing was left', () => {
    assert.equal(
      reusableAtEnd((sink) => AnswerPump.resume(sink, { left: 0 }), 'the whole of it'),
      false,
    );
  });
});
