/** Which connections come to the agent: addresses that are intercepted, and the clients' sockets on their way to it. */
import { type Layout, struct } from './struct.js';

/** Whose port an inbound address is: who listens there when the connections are not steered. */
export const INBOUND = {
  /** the proxy's own: it keeps the policy by itself */
  PROXYS: 0,
  /** a workload's: without agent and proxy, connections are refused */
  WORKLOADS: 1,
} as const;

export const SteerKeySpec = struct('steer_key', 'An address that is intercepted.', [
  ['netns', 'u64', 'cookie of the network namespace in which it is meant; 0: in all but the agent’s'],
  ['address', 'u32[4]', 'network order; IPv4 in the first word'],
  ['port', 'u16', 'network order'],
  ['family', 'u16', '2 or 10'],
  ['pad', 'u32', 'zero'],
]);
export const SteerSpec = struct('steer', 'Where connections to an intercepted address go.', [
  ['address', 'u32[4]', 'network order'],
  ['port', 'u16', 'network order'],
  ['keep_address', 'u16', '1: only the port is replaced'],
  ['listener', 'u32', 'index'],
  ['intake', 'u32', 'INTAKE: SOCKET or LISTENER'],
  ['refuse', 'u32', '1: nowhere; the connection is refused'],
  ['direct', 'u32', '1: to an endpoint of the listener’s route for connections'],
  ['hello', 'u32', '1: to an endpoint that the connection’s first message says'],
]);
export const PlaceSpec = struct('place', 'Where an endpoint is, by endpoint id; family 0: a name, or nobody.', [
  ['address', 'u32[4]', 'network order'],
  ['port', 'u16', 'network order'],
  ['family', 'u16', '2 or 10'],
]);
/** Key: cookie of a network namespace that is not the agent's. */
export const NetnsSpec = struct('netns', 'Where the agent listens in another network namespace; port 0: not there.', [
  ['address6', 'u32[4]', 'network order'],
  ['address4', 'u32', 'network order'],
  ['port4', 'u16', 'network order'],
  ['port6', 'u16', 'network order'],
]);
/** How the agent finds the connection that it accepted. */
export const TupleSpec = struct('tuple', 'Local end of a client socket.', [
  ['netns', 'u64', 'cookie of its network namespace'],
  ['address', 'u32[4]', 'network order'],
  ['port', 'u32', 'host order'],
  ['pad', 'u32', 'zero'],
]);
export const ArrivalSpec = struct('arrival', 'A client socket and what it asked for.', [
  ['cookie', 'u64', '0 with listener intake'],
  ['address', 'u32[4]', 'asked for, network order'],
  ['listener', 'u32', 'index'],
  ['port', 'u16', 'asked for, host order'],
  ['family', 'u16', 'of the address asked for, 2 or 10'],
]);

export const STEERING_LAYOUT: Layout = {
  constants: {},
  enums: { INBOUND },
  structs: [SteerKeySpec, NetnsSpec, ArrivalSpec, SteerSpec, PlaceSpec, TupleSpec],
};
