/** sessionPersistence -> Envoy's stateful session filter: the answer tells the client which server to come back to. */
import { envoyDuration } from '../istio/duration.js';
import type { JsonObject } from '../resources.js';
import type { SessionPersistence } from './schema.js';

export const SESSION_FILTER = 'envoy.filters.http.stateful_session';

const TYPE = 'type.googleapis.com/envoy.extensions.http.stateful_session';

/**
 * A StatefulSessionPerRoute.
 *
 * @param id tells apart the sessions of rules that name none
 */
export function sessionConfig(session: SessionPersistence, id: string): JsonObject {
  const name = session.sessionName ?? `sidestep-${id.replace(/[^A-Za-z0-9]+/g, '-')}`;
  const permanent = session.cookieConfig?.lifetimeType === 'Permanent' && session.absoluteTimeout !== undefined;
  const ttl = permanent ? { ttl: envoyDuration(session.absoluteTimeout ?? '0s') } : {};
  const state: JsonObject =
    session.type === 'Header'
      ? {
          name: 'envoy.http.stateful_session.header',
          typed_config: { '@type': `${TYPE}.header.v3.HeaderBasedSessionState`, name },
        }
      : {
          name: 'envoy.http.stateful_session.cookie',
          typed_config: { '@type': `${TYPE}.cookie.v3.CookieBasedSessionState`, cookie: { name, path: '/', ...ttl } },
        };
  return {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute',
    stateful_session: { session_state: state },
  };
}
