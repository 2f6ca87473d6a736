// Node's own HTTP server, on all addresses of both families.
//
//   [DELAY_MS=N] [GRACEFUL=1] node server.js PORT
//
// DELAY_MS: each answer takes so long. GRACEFUL: it ends on SIGTERM once it has
// answered; otherwise that kills it.
const http = require('http');

const delay = Number(process.env.DELAY_MS ?? 0);
const server = http.createServer((request, response) => {
  const slot = process.env.CLINIT_SLOT ?? '-';
  const answer = () => response.end(`pid=${process.pid} slot=${slot}\n`);
  if (delay > 0) {
    setTimeout(answer, delay);
  } else {
    answer();
  }
});
server.listen(Number(process.argv[2]), '::');
if (process.env.GRACEFUL) {
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
