// An ordinary Node server: it knows of no other process and shares nothing.
// With LISTEN_ON_STDIN its socket is handed down, as one of a SO_REUSEPORT
// group: the Node of this machine may be too old to make such a one.
const fs = require("node:fs");
const http = require("node:http");

const { LISTEN_ON_STDIN, PORT, READY } = process.env;
const body = `${process.pid}\n`;
const server = http.createServer((_, response) => response.end(body));
server.listen(LISTEN_ON_STDIN ? { fd: 0 } : Number(PORT), () => {
  fs.writeFileSync(`${READY}/${process.pid}`, "");
});
