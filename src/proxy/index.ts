export { Admin, type AdminReply } from './admin.js';
export { buildBootstrap, buildStaticBootstrap, type ProxyFiles } from './bootstrap.js';
export { LIMIT_KEY, withConsults, withoutLimits } from './consult.js';
export { envoyVersion, findEnvoy, ProxyError } from './find-envoy.js';
export { inboundPath, inboundProblem, withInboundListeners } from './inbound.js';
export { processStartTime, stopStaleProxy } from './process.js';
export { EnvoyProxy, type ProxyOptions, startProxy } from './proxy.js';
export { REPLAY_HEADER, replayMark, withReplayRoutes } from './replay.js';
export { validateWithEnvoy } from './validate.js';
