/** Every construct that has a generator of its own. */
import { answers } from './answers.js';
import { combined } from './combined.js';
import type { Construct } from './construct.js';
import { filters, limits, overridden } from './filters.js';
import { gatewayRoutes, meshRoutes } from './gateway-api.js';
import { hellos } from './hellos.js';
import { authorization, claimRoutes, requestAuthentication, virtualServices } from './istio.js';
import { jwt } from './jwt.js';
import { hosts, normalisation, queryParameters, rewrites } from './paths.js';

import { rare } from './rare.js';
import { traces } from './traces.js';

export const CONSTRUCTS: Readonly<Record<string, Construct>> = {
  ...{ normalisation, queryParameters, hosts, rewrites },
  ...{ filters, overridden, limits, answers, jwt, combined, traces, rare, hellos },
  ...{ virtualServices, authorization, requestAuthentication, claimRoutes },
  ...{ meshRoutes, gatewayRoutes },
};
