/**
 * Where requests of large policies have led: the virtual host and the candidate routes of a host and a path. A walk through the
 * automata of ten thousand routes waits for some ten cache lines that nobody has read lately; a decision lies in two.
 */
import { type Layout, struct } from './struct.js';

/** Decisions that are remembered, each in the place that its text's hash gives (a power of two). */
export const MAX_DECISIONS = 16384;
/** Words of the texts: first those of the path, then those of the host. Longer ones are not remembered. */
export const DECISION_WORDS = 12;
export const DECISION_PATH = 7;

export const DecisionSpec = struct(
  'decision',
  'A decision: what the automata said of a path and a host. Written by the programs alone.',
  [
    ['version', 'u32', 'odd while somebody writes'],
    ['generation', 'u32', "the image's; 0: none yet"],
    [
      'host_rows',
      'u32',
      'start row of the automaton over hosts, which with its class map decides what comes of the text',
    ],
    ['host_classes', 'u32', 'the class map'],
    ['path_len', 'u16', 'bytes'],
    ['host_len', 'u16', 'bytes'],
    ['asked', 'u32', 'of the last text that was not found here: the rest of its hash'],
    ['virtual_host', 'u32', 'offset'],
    ['list', 'u32', 'offset of the candidate list; 0: no route'],
    ['words', 'u64[12]', 'the path, its first byte lowest, then zeros; from DECISION_PATH on the host, too'],
  ],
);

export const DECISIONS_LAYOUT: Layout = {
  constants: { MAX_DECISIONS, DECISION_WORDS, DECISION_PATH },
  enums: {},
  structs: [DecisionSpec],
};
