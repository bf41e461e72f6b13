/** The part of the policy image (see image.ts) about connections whose endpoint the client's first message says. */
import { struct } from './struct.js';

/** Longest name of an application protocol that is looked at, in bytes; most of them of one server name. */
export const MAX_PROTOCOL = 16;
export const MAX_PROTOCOLS = 8;

export const HelloTableSpec = struct('hello_table', 'Where connections to a listener go, by their first message.', [
  ['names', 'u32', 'start row of the automaton over the server name; accept: offset of a hello_route or 0 (`other`)'],
  ['classes', 'u32', 'its class map'],
  [
    'other',
    'u32',
    'offset of the hello_route of a TLS connection without a server name, or with one that no chain names',
  ],
  ['plain', 'u32', 'offset of the hello_route of a connection that does not begin with TLS'],
]);

export const HelloRouteSpec = struct('hello_route', 'The filter chains of a server name.', [
  ['route', 'u32', 'offset of a route, where none of the protocols is offered; 0: the proxy'],
  ['n_protocols', 'u32', 'at most MAX_PROTOCOLS'],
  ['protocols', 'u32', 'offset of protocol[n_protocols]; the first of the client’s that is one of them says the route'],
  ['pad', 'u32', 'zero'],
]);

export const ProtocolSpec = struct('protocol', 'An application protocol (ALPN) that filter chains look at.', [
  ['low', 'u64', 'its first eight bytes, the first lowest, then zeros'],
  ['high', 'u64', 'the next eight'],
  ['length', 'u32', 'at most MAX_PROTOCOL'],
  ['route', 'u32', 'offset of a route; 0: the proxy'],
]);
