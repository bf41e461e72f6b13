/** Texts without what chance makes in them, so that those of two deciders can be compared. */

const ID = /[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/g;
const HEX = /\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b/g;
const RESET = /(x-ratelimit-reset: )(\d+)/g;
/** Of a try again, what is left of the time. */
const LEFT = /\b(x-envoy-expected-rq-timeout-ms: |grpc-timeout: )(\d{4,})(m?)(?![\w])/g;
/** SkyWalking's context: ids in Base64, and the server's address at the end. */
const SW8 = /(sw8: 1-)([^-\r]+)-([^-\r]+)(-[^\r]*-)[^-\r]+/g;

const unbase64 = (text: string): string => Buffer.from(text, 'base64').toString('latin1');

/**
 * A head, or one of its lines (names in lower case): ids that the request did not bring say their version only, spans' ids
 * their length; times that are left are in seconds; seconds until a token comes (in buckets of the tests, a day) are hours.
 */
export function chanceless(text: string, request: string): string {
  const brought = (found: string) => request.includes(found);
  return text
    .replace(SW8, (all, start, trace, segment, rest) =>
      brought(all.slice(5)) ? all : `${start}${unbase64(trace)}-${unbase64(segment)}${rest}`,
    )
    .replace(ID, (id, version) => (brought(id) ? id : `ID${version}`))
    .replace(HEX, (hex) => (brought(hex) ? hex : `HEX${hex.length}`))
    .replace(LEFT, (all, name, ms, unit) => (brought(ms + unit) ? all : `${name}${Math.ceil(Number(ms) / 1000)} s`))
    .replace(RESET, (_, name, seconds) => `${name}${Math.ceil(Number(seconds) / 3600)} h`);
}
