/**
 * The policy image: one relocatable-free blob per generation, placed in a BPF array of one element. This file describes it
 * as far as it says which rule applies to a request; what is done then is in actions.ts and clusters.ts. Every reference
 * is a byte offset from the start of the blob; 0 means "none" (offset 0 is the header, which nothing refers to).
 *
 * The class map of an automaton is 256 bytes; entry `b` is the class of byte `b` plus one.
 * Matching automata: a state is referred to by the offset (a multiple of 8) of its row or its node, plus its STATE, and
 * begins with `u32 accept`, what acceptance means to the user of the automaton (see `job`, `listener`, `virtual_host`): 0, or
 * the offset of something that is not a row.
 * - A row at `r` is `u32 accept, u32 other`. The cell of byte `b` is `u32 row, u32 next` at `r + 8 * classes[b]`; it belongs to
 *   the row when `row == r`, and then `next` is the next state, which else is `other`. Rows share the space between them, so a
 *   state takes 8 bytes and 8 more for each class that does not lead to `other`; a row is never taken for a cell.
 * - A node (see `node`) compares up to eight bytes at once: most states of large policies are long strings.
 * Scanners and capturing automata: a row is `u32 accept` followed by one u32 cell for each class, so that the cell of
 * byte `b` is the u32 at `r + 4 * classes[b]`.
 * - scanners (request and response heads): the low 24 bits of the cell are the next row's offset, the high 8 bits an action of
 *   `SCAN`.
 * - capturing automata (regex rewrite): as scanners, but the high 8 bits are the mask of capture registers (2 a group,
 *   group 0 not stored, so at most 4 groups) to be set to the position *before* the byte is consumed; `accept` is 0 (no
 *   match) or 1 | mask << 8 of the registers to be set at the end of the input.
 */
import { HelloRouteSpec, HelloTableSpec, MAX_PROTOCOL, MAX_PROTOCOLS, ProtocolSpec } from './hellos.js';
import { type Layout, struct } from './struct.js';

/** Size in bytes of the blob (a power of two); offsets are masked with IMAGE_SIZE - 1. Slack follows: room for a cell behind any offset. */
export const IMAGE_SIZE = 16 * 1024 * 1024;
export const IMAGE_SLACK = 2304;
export const IMAGE_MAGIC = 0x53544550;

/** Longest request or response head that the kernel looks at, in bytes; longer ones go to the proxy. */
export const MAX_HEAD = 8192;
/** Accept of a scanner's row that every byte from 0x20 to 0x7e leads back to without an action: such bytes are skipped. */
export const PLAIN_ROW = 0x80000000;
/** Most header lines in a head that the kernel looks at. */
export const MAX_LINES = 64;
/** 64-bit words of facts (predicates that hold for a request). Words 0..15 are shared by listener and virtual host. */
export const FACT_WORDS = 16;
/** The last words are kept for facts about a verified token, which come with the token. */
export const TOKEN_WORDS = 2;
export const TOKEN_WORD = FACT_WORDS - TOKEN_WORDS;

/** Most jobs of one list, literals of one condition. */
export const MAX_JOBS = 64;
export const MAX_LITERALS = 256;
/** The same for a rule of access control: a hundred policies of some methods and paths each have a thousand and more. */
export const MAX_RBAC_LITERALS = 2048;
/** Most candidates of a path, entries of a list of access control. */
export const MAX_CANDIDATES = 512;
export const MAX_RBAC = 24;
/** Most steps of one list that are drawn when nothing can lead to the proxy any more: chances and rate limits. */
export const MAX_LOTS = 8;

/** Actions on the transitions of a scanner. */
export const SCAN = {
  NONE: 0,
  /** at the space after the method */
  METHOD_END: 1,
  /** at the first '?' of the target */
  QUERY: 2,
  /** at the space after the target */
  TARGET_END: 3,
  /** at the first byte of a header line's name */
  LINE: 4,
  /** at ':'; the accept of the row that is left is the slot of the name (0: a header nobody asks for) */
  NAME_END: 5,
  /** at the first byte of the value that is not white space */
  VALUE: 6,
  /** at CR; trailing white space is trimmed by the user of the scanner */
  VALUE_END: 7,
  /** at the LF that ends the head */
  HEAD_END: 8,
  /** not the strict grammar: the proxy decides */
  ODD: 9,
} as const;

/** Slots of header names known to every scanner; slots from FIRST_FREE on are given out by the compiler (below 64). */
export const SLOT = {
  OTHER: 0,
  HOST: 1,
  CONTENT_LENGTH: 2,
  TRANSFER_ENCODING: 3,
  CONNECTION: 4,
  KEEP_ALIVE: 5,
  PROXY_CONNECTION: 6,
  TE: 7,
  UPGRADE: 8,
  EXPECT: 9,
  X_REQUEST_ID: 10,
  X_FORWARDED_PROTO: 11,
  X_FORWARDED_FOR: 12,
  TRAILER: 13,
  /** a header whose presence alone sends a request to the proxy (x-envoy-* and the like) */
  ODD: 14,
  FIRST_FREE: 15,
} as const;
export const MAX_SLOTS = 64;
/** Slots from MAX_SLOTS to here are only watched for repetition (headers that Envoy joins into one line). */
export const MAX_WATCHED_SLOTS = 128;

/** What is added to the offset of a matching automaton's state. */
export const STATE = {
  ROW: 0,
  NODE: 1,
  /** whatever comes does not matter: the offset itself is what acceptance means */
  SINK: 2,
} as const;
/** Most successors in a node, besides the one for all other bytes. */
export const NODE_KEYS = 5;

/** How often a node may fail, its `fail` again, and so on, before a byte is got over. */
export const MAX_FAILS = 3;

/** What a job's automaton runs over. */
export const FIELD = {
  METHOD: 0,
  /** the Host header's value, as received */
  HOST: 1,
  /** the target up to the first '?' */
  PATH: 2,
  /** what follows the first '?', empty if there is none */
  QUERY: 3,
  /** path and query */
  TARGET: 4,
  /** 4 or 16 bytes, network order */
  SOURCE_IP: 5,
  /** a header by slot; values of repeated lines are joined by ','; a missing header runs nothing and sets no fact */
  HEADER: 6,
} as const;

/** Where a token may be. */
export const TOKEN_PLACE = { HEADER: 0, COOKIE: 1, QUERY: 2 } as const;
/** Places for tokens of a listener, and bytes of the header lines that come with one. */
export const MAX_TOKEN_PLACES = 8;
export const MAX_TOKEN_LINES = 1024;
export const RBAC = { ALLOW: 0, DENY: 1 } as const;
/** What the access log of a listener needs to know of a request that the kernel decides. */
export const LOG = {
  ON: 1,
  /** the head of the request, as it is forwarded */
  REQUEST: 2,
  /** the head of the answer */
  ANSWER: 4,
  /** spans are made of it, and nothing else: only of requests whose span is sampled */
  SPANS: 8,
} as const;

/** rbac_entry.reply: what is stopped goes to the proxy (no action lies there). */
export const REPLY_PROXY = 1;
/** With a chance: what is drawn is the proxy's, which delays it. */
export const REPLY_DELAYED = 2;
export const ROUTE_FLAG = {
  /** whether the route matches cannot be computed: a request that gets as far as it goes to the proxy */
  UNKNOWN: 1,
} as const;

export const ImageHeader = struct('image_header', 'The first bytes of the blob.', [
  ['magic', 'u32', 'IMAGE_MAGIC'],
  ['generation', 'u32', 'number of this policy generation, from 1'],
  ['size', 'u32', 'bytes used'],
  ['n_listeners', 'u32', 'number of listeners'],
  ['listeners', 'u32', 'offset of u32[n_listeners], each the offset of a listener or 0 (everything to the proxy)'],
  ['response_scan', 'u32', 'start row of the scanner for response heads'],
  ['response_classes', 'u32', 'its class map'],
  ['n_answer_edits', 'u32', 'number of the last of the answer edits, at most MAX_ANSWER_EDITS'],
  ['answer_edits', 'u32', 'offset of u32[n_answer_edits + 1]: offsets of answer_edit by number; 0: the agent edits'],
  ['framing_scan', 'u32', 'start row of the scanner that only tells where a request ends'],
  ['framing_classes', 'u32', 'its class map'],
  ['connections', 'u32', 'offset of u32[n_listeners]: the route for connections to a listener or 0; 0: there are none'],
  ['hellos', 'u32', 'offset of u32[n_listeners]: the hello_table of a listener or 0; 0: there are none'],
]);

export const NodeSpec = struct(
  'node',
  'A state whose next bytes are nearly always the same: see src/compile/forms.ts.',
  [
    ['accept', 'u32', 'where the input ends here'],
    ['fail', 'u32', 'state to go on from, at the first byte of the chain, when the input is another'],
    ['end', 'u32', 'what acceptance means behind the chain (an offset that is a multiple of 8, like a row)'],
    ['length', 'u16', 'bytes of the chain, at most 8'],
    ['on', 'u16', '1: `other` is the state behind the chain, with which to go on'],
    ['want', 'u64', 'the chain, its first byte lowest'],
    ['mask', 'u64', 'bits of the input that must be as in `want`'],
    ['keys', 'u64', 'class map entries of the byte behind the chain, the first lowest; 0: no more'],
    ['to', 'u32[5]', 'states that they lead to'],
    ['other', 'u32', 'state that any other byte leads to'],
  ],
);

export const ListenerSpec = struct('listener', 'What is decided for connections to one listener.', [
  ['scan', 'u32', 'start row of the scanner for request heads'],
  ['scan_classes', 'u32', 'its class map'],
  ['host', 'u32', 'start row of the automaton over the Host value; accept: offset of a virtual_host or 0'],
  ['host_classes', 'u32', 'its class map'],
  ['jobs', 'u32', 'offset of job[n_jobs], run for every request (before the host is known)'],
  ['n_jobs', 'u32', 'at most MAX_JOBS'],
  ['rbac', 'u32', 'rbac_list for requests without a route, and for routes that do not say otherwise'],
  ['not_found', 'u32', 'action when no virtual host or no route matches'],
  ['denied', 'u32', 'action when RBAC denies'],
  ['proxy_endpoint', 'u32', 'endpoint id of the proxy listener that stands behind this one, plus one; 0: none'],
  ['token_places', 'u32', 'offset of token_place[n_token_places]: where tokens are looked up'],
  ['n_token_places', 'u32', 'at most MAX_TOKEN_PLACES'],
  ['log', 'u32', 'LOG; 0: its requests are not logged'],
  ['remembers', 'u32', '1: where hosts and paths lead is remembered (src/layout/decisions.ts)'],
]);

export const TokenPlaceSpec = struct('token_place', 'Where a token may be; of several in a request none is known.', [
  ['kind', 'u32', 'TOKEN_PLACE'],
  ['slot', 'u32', 'HEADER and COOKIE: of the header'],
  ['find', 'u32', 'COOKIE and QUERY: start row of the capturing automaton that finds the value: registers 0 and 1'],
  ['find_classes', 'u32', 'its class map'],
]);

export const VirtualHostSpec = struct('virtual_host', 'The routes of a set of domains.', [
  ['path', 'u32', 'start row of the path automaton; accept: offset of a candidate list'],
  ['path_classes', 'u32', 'its class map'],
  ['jobs', 'u32', 'offset of job[n_jobs]'],
  ['n_jobs', 'u32', 'at most MAX_JOBS'],
]);

// A candidate list is u32 n (at most MAX_CANDIDATES) and n offsets of routes, in the order of evaluation.

export const JobSpec = struct('job', 'One automaton over one field; accept: 0 or the offset of a u64 mask of facts.', [
  ['dfa', 'u32', 'start row'],
  ['classes', 'u32', 'class map'],
  ['field', 'u8', 'FIELD'],
  ['slot', 'u8', 'header slot for FIELD.HEADER'],
  ['word', 'u8', 'word of the facts that the mask is or-ed into'],
  ['pad', 'u8', 'zero'],
]);

export const RouteSpec = struct('route', 'One rule: when it applies and what is done.', [
  ['flags', 'u32', 'ROUTE_FLAG'],
  ['condition', 'u32', 'offset of literals; 0: always'],
  ['rbac', 'u32', "offset of an rbac_list, replaces the listener's; 0: the listener's own"],
  ['action', 'u32', 'offset of an action; 0: the proxy'],
  ['rule', 'u32', 'index of the rule for counting'],
  ['pad', 'u32', 'zero'],
]);

export const LITERAL = {
  PRODUCT_END: 1,
  END: 2,
  /** one of the facts must hold, whichever; `want` is 0 */
  ANY: 4,
} as const;
export const LiteralSpec = struct(
  'literal',
  'Conditions are sums of products: a run of literals up to a PRODUCT_END is a product; the list ends at END.',
  [
    ['word', 'u32', 'word of the facts'],
    ['flags', 'u32', 'LITERAL'],
    ['mask', 'u64', 'facts looked at'],
    ['want', 'u64', 'what they must be (ANY: what they must not be)'],
  ],
);

export const RbacListSpec = struct(
  'rbac_list',
  'u32 n, then n entries evaluated in order; the first that denies decides.',
  [
    ['n', 'u32', 'at most MAX_RBAC'],
    ['pad', 'u32', 'zero'],
  ],
);
export const RbacEntrySpec = struct('rbac_entry', 'ALLOW stops what does not match; DENY stops what matches.', [
  ['action', 'u32', 'RBAC'],
  ['never', 'u32', '1: the condition never matches'],
  ['condition', 'u32', 'offset of literals; 0 with never == 0: always matches'],
  [
    'reply',
    'u32',
    "offset of the action for what is stopped; 0: the listener's `denied`; REPLY_PROXY: the proxy; REPLY_DELAYED",
  ],
  ['numerator', 'u32', 'with a denominator: stops this share of what it would stop, drawn per request'],
  ['denominator', 'u32', '0: always'],
  ['bucket', 'u32', 'index plus one of a bucket: stops what it would stop only when no token is left; 0: none'],
  ['pad', 'u32', 'zero'],
]);

export const IMAGE_LAYOUT: Layout = {
  constants: {
    IMAGE_SIZE,
    IMAGE_SLACK,
    IMAGE_MAGIC,
    MAX_HEAD,
    MAX_LINES,
    PLAIN_ROW,
    FACT_WORDS,
    TOKEN_WORDS,
    TOKEN_WORD,
    MAX_JOBS,
    MAX_LITERALS,
    MAX_RBAC_LITERALS,
    MAX_CANDIDATES,
    MAX_RBAC,
    MAX_LOTS,
    NODE_KEYS,
    MAX_FAILS,
    MAX_SLOTS,
    MAX_WATCHED_SLOTS,
    MAX_TOKEN_PLACES,
    MAX_TOKEN_LINES,
    REPLY_PROXY,
    REPLY_DELAYED,
    MAX_PROTOCOL,
    MAX_PROTOCOLS,
  },
  enums: { SCAN, SLOT, STATE, FIELD, TOKEN_PLACE, RBAC, LOG, LITERAL, ROUTE_FLAG },
  structs: [
    ImageHeader,
    NodeSpec,
    ListenerSpec,
    TokenPlaceSpec,
    VirtualHostSpec,
    JobSpec,
    RouteSpec,
    LiteralSpec,
    RbacListSpec,
    RbacEntrySpec,
    HelloTableSpec,
    HelloRouteSpec,
    ProtocolSpec,
  ],
};
