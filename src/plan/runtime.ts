/** Runtime layers of a bootstrap (config.bootstrap.v3.LayeredRuntime). */
import type { JsonObject } from '../policy/resources.js';
import { list, obj } from './notes.js';

/** Whether a runtime layer may say something about a key. */
export type MayChange = (key: string) => boolean;

/** True if a runtime layer says something about `prefix`, or keys that begin with it, or can come to say it. */
export function runtimeMayChange(bootstrap: JsonObject, prefix: string): boolean {
  return list(obj(bootstrap, 'layered_runtime'), 'layers').some((layer) => {
    const fixed = obj(layer, 'static_layer');
    const about = (key: string) => `${key}.`.startsWith(`${prefix}.`) || prefix.startsWith(`${key}.`);
    return !fixed || Object.keys(fixed).some(about);
  });
}
