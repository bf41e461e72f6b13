/**
 * The compressor and decompressor filters. The proxy compresses and decompresses: it gets what may have to be. What is
 * left are the edits that Envoy makes to the rest: `vary` on answers that it could have compressed.
 */
import type { JsonObject } from '../policy/resources.js';
import type { Compressible } from './compressible.js';
import { any, headerPresent, test } from './conditions.js';
import type { FilterInput, FilterSteps, LevelConfig, Step } from './filter-steps.js';
import { anyType, bool, has, join, type Notes, num, obj, onlyFields, str, strings } from './notes.js';
import type { MayChange } from './runtime.js';

const COMPRESSION = 'envoy.extensions.compression.';
/** Names of encodings in Accept-Encoding, by library. */
const ENCODINGS: Readonly<Record<string, string>> = { gzip: 'gzip', brotli: 'br', zstd: 'zstd' };
const LEAST_LENGTH = 30;
const TYPES =
  'text/html text/plain text/css application/javascript application/x-javascript text/javascript text/x-javascript ' +
  'text/ecmascript text/js text/jscript text/x-js application/ecmascript application/x-json application/xml ' +
  'application/json image/svg+xml text/xml application/xhtml+xml application/grpc-web application/grpc-web+proto';
/** What may stand in a media type. */
const MEDIA_TYPE = /^[!#$&^_.+\-/0-9A-Za-z]+$/;

/** The encoding of a library, undefined, with a reason, if it is not known. */
function encodingOf(notes: Notes, { config, path }: LevelConfig, kind: 'compressor' | 'decompressor') {
  const library = `${kind}_library`;
  const type = anyType(obj(obj(config, library), 'typed_config'));
  const name = Object.keys(ENCODINGS).find((n) => type.startsWith(`${COMPRESSION}${n}.${kind}.`));
  if (name === undefined) notes.add('http-filter', `the ${kind} is ${type}`, join(path, library), config, library);
  return name && ENCODINGS[name];
}

/** A RuntimeFeatureFlag: on where it is not there. */
function flag(notes: Notes, owner: JsonObject | undefined, key: string, path: string, mayChange: MayChange): boolean {
  const feature = obj(owner, key);
  if (feature && str(feature, 'runtime_key') !== '' && mayChange(str(feature, 'runtime_key')))
    notes.add('runtime-fraction', 'a runtime layer may change it', join(path, key), owner, key);
  return bool(feature, 'default_value', true);
}

interface Direction {
  readonly enabled: boolean;
  readonly minimum: number;
  readonly types: readonly string[];
}

function direction(notes: Notes, config: JsonObject, path: string, mayChange: MayChange): Direction {
  const at = join(path, 'common_config');
  const common = obj(config, 'common_config') ?? {};
  onlyFields(notes, common, at, ['enabled', 'min_content_length', 'content_type']);
  const enabled = flag(notes, common, 'enabled', at, mayChange);
  return { enabled, ...limits(notes, common, 'min_content_length', at) };
}

function limits(notes: Notes, owner: JsonObject, length: string, path: string): Omit<Direction, 'enabled'> {
  const own = strings(owner, 'content_type').map((t) => t.toLowerCase());
  if (own.some((t) => !MEDIA_TYPE.test(t)))
    notes.add('http-filter', 'a content type is none', join(path, 'content_type'), owner, 'content_type');
  return { minimum: num(owner, length) || LEAST_LENGTH, types: own.length > 0 ? own : TYPES.split(' ') };
}

/** What is said about answers: since long in a message of its own, before in fields of the filter. */
function answers(notes: Notes, config: JsonObject, path: string, mayChange: MayChange) {
  const message = obj(config, 'response_direction_config');
  const at = message ? join(path, 'response_direction_config') : path;
  const said = message ?? config;
  if (message)
    onlyFields(notes, message, at, [
      'common_config',
      'disable_on_etag_header',
      'remove_accept_encoding_header',
      'weaken_etag_on_compress',
    ]);
  const common = message
    ? direction(notes, message, at, mayChange)
    : {
        enabled: flag(notes, config, 'runtime_enabled', path, mayChange),
        ...limits(notes, config, 'content_length', path),
      };
  const removes = bool(said, 'remove_accept_encoding_header');
  return { ...common, removes, sparesEtags: bool(said, 'disable_on_etag_header') };
}

const contains = (name: string, value: string) =>
  test({ kind: 'header', name }, { kind: 'contains', value, ignoreCase: true });
const toProxy = (condition: Step['condition']): Step => ({ action: 'deny', condition, reply: 'proxy' });

/**
 * Requests that accept the filter's encoding, or any, are the proxy's. Of an answer to another, Envoy says that it could
 * have been another one.
 * @param own the most specific per-route configuration
 */
export function compressor(
  notes: Notes,
  { config, path }: FilterInput,
  own: LevelConfig | undefined,
  mayChange: MayChange,
): FilterSteps {
  onlyFields(notes, config, path, [
    ...['content_length', 'content_type', 'disable_on_etag_header', 'remove_accept_encoding_header', 'runtime_enabled'],
    ...['compressor_library', 'request_direction_config', 'response_direction_config', 'choose_first'],
  ]);
  const encoding = encodingOf(notes, { config, path }, 'compressor');
  const { removes, sparesEtags, ...answer } = answers(notes, config, path, mayChange);
  const route = own ? perRoute(notes, own) : {};
  const steps: Step[] = [];
  const requests = obj(config, 'request_direction_config');
  if (requests) {
    const at = join(path, 'request_direction_config');
    onlyFields(notes, requests, at, ['common_config']);
    const { enabled, minimum } = direction(notes, requests, at, mayChange);
    const long = { kind: 'range', start: BigInt(minimum), end: 1n << 62n } as const;
    if (enabled) steps.push(toProxy(test({ kind: 'header', name: 'content-length' }, long)));
  }
  if (encoding === undefined || !(route.enabled ?? answer.enabled)) return { steps, request: [], answer: [] };
  steps.push(toProxy(any([contains('accept-encoding', encoding), contains('accept-encoding', '*')])));
  const when: Compressible = { minimum: answer.minimum, types: answer.types, sparesEtags };
  return {
    steps,
    request: (route.removes ?? removes) ? [{ op: 'remove', name: 'accept-encoding' }] : [],
    answer: [{ op: 'list', name: 'vary', value: [{ kind: 'literal', value: 'Accept-Encoding' }], when }],
  };
}

function perRoute(notes: Notes, { config, path }: LevelConfig): { enabled?: boolean; removes?: boolean } {
  onlyFields(notes, config, path, ['disabled', 'overrides']);
  if (bool(config, 'disabled')) return { enabled: false };
  const overrides = obj(config, 'overrides');
  if (overrides) onlyFields(notes, overrides, join(path, 'overrides'), ['response_direction_config']);
  const answer = obj(overrides, 'response_direction_config');
  if (!answer) return {};
  const key = 'remove_accept_encoding_header';
  onlyFields(notes, answer, join(path, 'overrides.response_direction_config'), [key]);
  return { enabled: true, ...(has(answer, key) ? { removes: bool(answer, key) } : {}) };
}

/** Requests with an encoded body are the proxy's, and, where answers are decompressed, all. */
export function decompressor(notes: Notes, { config, path, levels }: FilterInput, mayChange: MayChange): FilterSteps {
  onlyFields(notes, config, path, [
    ...['decompressor_library', 'request_direction_config', 'response_direction_config'],
  ]);
  encodingOf(notes, { config, path }, 'decompressor');
  for (const level of levels)
    notes.add('per-route-filter', `the filter ${anyType(level.config)} is configured here`, level.path, level.config);
  const enabled = (key: string): boolean => {
    const found = obj(config, key) ?? {};
    const at = join(path, key);
    onlyFields(notes, found, at, ['common_config', 'advertise_accept_encoding']);
    const common = obj(found, 'common_config') ?? {};
    onlyFields(notes, common, join(at, 'common_config'), ['enabled', 'ignore_no_transform_header']);
    return flag(notes, common, 'enabled', join(at, 'common_config'), mayChange);
  };
  if (enabled('response_direction_config'))
    notes.add('http-filter', 'answers are decompressed', join(path, 'response_direction_config'), config);
  const steps = enabled('request_direction_config') ? [toProxy(headerPresent('content-encoding'))] : [];
  return { steps, request: [], answer: [] };
}
