export { Admin, type AdminReply } from './admin.js';
export { buildBootstrap, buildStaticBootstrap, type ProxyFiles } from './bootstrap.js';
export { envoyVersion, findEnvoy, ProxyError } from './find-envoy.js';
export { inboundPath, inboundProblem, withInboundListeners } from './inbound.js';
export { buffersOf, type PreparedProxy, prepareProxy } from './prepared.js';
export { processStartTime, stopStaleProxy } from './process.js';
export { EnvoyProxy, type ProxyOptions, startProxy } from './proxy.js';
export { REPLAY_HEADER, replayMark, withReplayRoutes } from './replay.js';
export { validateWithEnvoy } from './validate.js';
