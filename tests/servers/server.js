// Node's own HTTP server, on all addresses of both families.
//
//   node server.js PORT
const http = require('http');

http
  .createServer((request, response) => {
    const slot = process.env.CLINIT_SLOT ?? '-';
    response.end(`pid=${process.pid} slot=${slot}\n`);
  })
  .listen(Number(process.argv[2]), '::');
