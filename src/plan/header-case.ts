/**
 * header_key_format of HTTP/1.1: names of headers as they came. The kernel leaves names as they are, so what it forwards
 * without an edit is right; a line that an edit replaces would have the name that the configuration spells.
 */
import type { JsonObject } from '../policy/resources.js';
import type { ForwardAction } from './ir.js';
import { anyType, join, type Notes, obj, onlyFields, str } from './notes.js';

const TYPE = 'envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig';
const KEY = 'header_key_format';

/** Whether HTTP/1.1 options keep the spelling of names; other formats are noted. */
export function keepsCase(notes: Notes, http1: JsonObject | undefined, path: string): boolean {
  const format = obj(http1, KEY);
  if (!http1 || !format) return false;
  const at = join(path, KEY);
  const config = obj(obj(format, 'stateful_formatter'), 'typed_config');
  const envoys = str(config, 'formatter_type_on_envoy_headers');
  if (anyType(config) !== TYPE || (envoys !== '' && envoys !== 'DEFAULT')) {
    notes.add('unsupported-field', 'names of headers are spelled in another way', at, http1, KEY);
    return false;
  }
  // the words behind the status are the server's here in any case
  onlyFields(notes, config!, at, ['@type', 'forward_reason_phrase', 'formatter_type_on_envoy_headers']);
  return true;
}

/** A header that the kernel writes in the place of one that the client may have sent in another spelling. */
export function respelled({ edits, host }: ForwardAction): string | undefined {
  if (host !== undefined) return 'host';
  const replaced = edits.find(
    // requests that bring x-envoy headers are the proxy's
    ({ op, name }) => op !== 'remove' && op !== 'add_if_absent' && !name.startsWith('x-envoy-'),
  );
  return replaced?.name;
}
