// Node's own HTTP server, on all addresses of both families.
//
//   [DELAY_MS=N] [GRACEFUL=1] [PORT=PORT] node server.js PORT
//
// DELAY_MS: each answer takes so long. GRACEFUL: it ends on SIGTERM once it has
// answered, and keeps no connection from then on; otherwise that kills it. PORT:
// where argv is not its own, as under pm2.
const http = require('http');

const delay = Number(process.env.DELAY_MS ?? 0);
let ending = false;
const server = http.createServer((request, response) => {
  const slot = process.env.CLINIT_SLOT ?? '-';
  const answer = () => {
    if (ending) {
      // close() waits for those who keep theirs, and goes on to answer them.
      response.setHeader('Connection', 'close');
    }
    response.end(`pid=${process.pid} slot=${slot}\n`);
  };
  if (delay > 0) {
    setTimeout(answer, delay);
  } else {
    answer();
  }
});
server.listen(Number(process.env.PORT ?? process.argv[2]), '::');
if (process.env.GRACEFUL) {
  process.on('SIGTERM', () => {
    ending = true;
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
