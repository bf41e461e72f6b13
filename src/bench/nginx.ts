/** nginx as the benchmarks' server. */

/**
 * nginx's configuration: one worker, no log, and all that it writes below `dir`.
 * @param listen its address and port
 * @param server more lines of the server
 * @param http more lines for all servers
 */
export function nginxConfig(dir: string, listen: string, server: string, http = ''): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((n) => `${n}_temp_path ${dir}/${n};`);
  return `
worker_processes 1;
daemon off;
pid ${dir}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  ${temporary.join('\n  ')}
  ${http}
  server {
    listen ${listen} backlog=4096;
    ${server}
  }
}
`;
}
